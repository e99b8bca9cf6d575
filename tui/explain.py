"""What each figure and chart means: the first sentences of the topics in `minigpt.learn`, by key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from minigpt.learn import of_kind, sentence


class _Sentences(Mapping[str, str]):
    """The sentences of figures and charts; each file is read when it is first asked for."""

    def __getitem__(self, key: str) -> str:
        found = sentence(f"metrics/{key}")
        if found is None:
            raise KeyError(key)
        return found

    def __iter__(self) -> Iterator[str]:
        return (topic.name for topic in of_kind("metrics"))

    def __len__(self) -> int:
        return len(of_kind("metrics"))


EXPLANATIONS: Mapping[str, str] = _Sentences()
