"""The topics: found by name, parsed from their files, put together with what config.py knows of a setting."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from minigpt.config import SettingItem, settings
from minigpt.errors import UserError, printable
from minigpt.notices import NOTICES

TOPICS = Path(__file__).parent / "topics"
# Folder -> what its topics are called in the contents, in this order.
KINDS = {
    "symptoms": "What is wrong?",
    "concepts": "Ideas",
    "metrics": "Figures and charts",
    "notices": "Notices and warnings",
    "settings": "Settings",
}
SECTIONS = ("Like", "How it works", "In your run", "Why", "Too high", "Too low", "Try", "Read on")
LIVE = "In your run"
NO_FIGURES = "Once a run is under way, its own figures stand here."
SEVERITIES = {"info": "for your information", "warning": "a warning", "error": "an error"}
BEFORE_A_RUN = "a warning before a run begins"
NEAREST, LONGEST_NAME = 5, 100
LEAST_ALIKE = 0.6

_PLACEHOLDER = re.compile(r"\{([a-z0-9_.]+)\}")
_LINK = re.compile(r"\[([^\]]+)\]\(([^)\s]+)\)")
_ALSO = re.compile(r"^<!-- also: (.*) -->$")


@dataclass(frozen=True)
class Topic:
    """One topic; `sections` has the text of each heading, `lead` what stands before the first."""

    name: str
    kind: str
    title: str
    sentence: str
    lead: str
    sections: Mapping[str, str]
    also: tuple[str, ...] = ()

    @property
    def links(self) -> tuple[tuple[str, str], ...]:
        """The topics that it points to, as (text, name), each once, in the order of reading."""
        found: dict[str, str] = {}
        for text in (self.lead, *self.sections.values()):
            for words, name in _LINK.findall(text):
                found.setdefault(name, _one_line(words))
        return tuple((words, name) for name, words in found.items())

    @property
    def placeholders(self) -> frozenset[str]:
        """The figures of a run that it wants to tell."""
        return frozenset(_PLACEHOLDER.findall(self.sections.get(LIVE, "")))

    def markdown(self, values: Mapping[str, str] | None = None) -> str:
        """Return all of it as Markdown, with a run's figures filled in."""
        parts = [f"# {self.title}", self.sentence, *self._facts(values or {}), self.lead]
        for heading, text in self.sections.items():
            parts += [f"## {heading}", _filled(text, values or {}) if heading == LIVE else text]
        return "\n\n".join(part for part in parts if part) + "\n"

    def _facts(self, values: Mapping[str, str]) -> list[str]:
        if self.kind == "notices":
            known = NOTICES.get(self.name)
            return [f"`{self.name}` · {SEVERITIES[known.severity] if known else BEFORE_A_RUN}"]
        item = settings().get(self.name) if self.kind == "settings" else None
        return [facts(item, values.get(self.name))] if item else []


def facts(item: SettingItem, value: str | None = None) -> str:
    """Return in one line what a setting is by default and may be, and its `value` in a run."""
    # TOML and all that belongs to it are not needed by who shows no setting.
    from minigpt.presets import allowed

    about = item.about
    default = (f"left out ({about.auto})" if about.auto else "none") if item.default in (None, "", []) else item.default
    parts = [f"`{item.key}`", f"default **{_said(default)}**"]
    if value is not None:
        parts.append(f"in your run **{value}**")
    if item.type is not str and item.type != list[str]:
        parts.append(f"allowed: {allowed(item)}" + (f" ({about.unit})" if about.unit else ""))
    if about.usual:
        parts.append(f"usual: {about.usual[0]:g} to {about.usual[1]:g}")
    return " · ".join([*parts, "flags: " + ", ".join(f"`{flag}`" for flag in item.flags)])


def topic(name: str) -> Topic:
    """Return the topic of this name, title or other name; raises UserError that names the nearest ones."""
    exact = _of_name(name)
    if exact is not None:
        return exact
    meant = _by_other_names().get(_plain(name), ())
    if len(meant) == 1:
        return _shelf()[meant[0]]
    told = printable(name, single_line=True)
    if meant:
        raise UserError(f"{told!r} may be {_listed(meant)}: say which.")
    near = find(name)[:NEAREST]
    advice = f"did you mean {_listed(near)}? " if near else ""
    raise UserError(f"There is no topic {told!r}: {advice}`minigpt learn` shows all of them.")


def sentence(name: str) -> str | None:
    """Return a topic's first sentence, or None where there is no such topic; reads no other file."""
    found = _of_name(name)
    return found.sentence if found else None


def names() -> tuple[str, ...]:
    """Return the names of all topics, kind by kind."""
    return tuple(_shelf())


def contents() -> dict[str, tuple[Topic, ...]]:
    """Return the topics of each kind: settings as config.py has them, the others by name."""
    return {kind: of_kind(kind) for kind in KINDS}


@cache
def of_kind(kind: str) -> tuple[Topic, ...]:
    """Return the topics of one kind; reads no others."""
    return tuple(found for name in _stems(kind) if (found := _of_name(f"{kind}/{name}")))


def find(words: str) -> list[str]:
    """Return the names of the topics that have to do with some words, the nearest first."""
    wanted = _plain(words[:LONGEST_NAME])
    if not wanted:
        return list(names())
    told = {name: score for name, found in _shelf().items() if (score := _likeness(found, wanted))}
    return sorted(told, key=lambda name: -told[name])


def _likeness(found: Topic, wanted: str) -> float:
    """Return how near a topic is to some words: called so (3 and more), said in its sentence (2), spelled alike (1)."""
    called = [_plain(text) for text in (found.name.replace(".", " "), found.title, *found.also)]
    alike = max(difflib.SequenceMatcher(None, wanted, text).ratio() for text in called)
    if any(all(word in text for word in wanted.split()) for text in called):
        begins = any(f" {wanted}" in f" {text}" for text in called)
        return 3 + alike + begins
    if all(word in _plain(found.sentence) for word in wanted.split()):
        return 2 + alike
    return alike if alike > LEAST_ALIKE else 0.0


def _listed(some: Sequence[str]) -> str:
    return " or ".join([", ".join(some[:-1]), some[-1]]) if len(some) > 1 else some[0]


def _plain(text: str) -> str:
    """Return a name as people may write it: no case, and one kind of gap."""
    return " ".join(re.split(r"[\s_\-]+", text.lower().strip()))


@cache
def _shelf() -> dict[str, Topic]:
    return {found.name: found for kind in KINDS for found in of_kind(kind)}


@cache
def _stems(kind: str) -> tuple[str, ...]:
    stems = sorted(path.stem for path in (TOPICS / kind).glob("*.md"))
    # Settings in their order, else the index first.
    order = list(settings()) if kind == "settings" else [kind]
    return tuple(sorted(stems, key=lambda stem: order.index(stem) if stem in order else len(order)))


@cache
def _by_other_names() -> dict[str, tuple[str, ...]]:
    """Return the topics that a title, another name or a setting's last word may mean; a kind before settings wins."""
    found: dict[str, tuple[str, ...]] = {}
    for name, one in _shelf().items():
        called = {_plain(text) for text in (name, one.title, *one.also)}
        if one.kind == "settings":
            item = settings()[name]
            called |= {_plain(item.name), *(_plain(flag.lstrip("-")) for flag in item.flags)}
        for text in called:
            known = found.get(text, ())
            if not any(_shelf()[other].kind != one.kind for other in known):
                found[text] = (*known, name)
    return found


@cache
def _of_name(name: str) -> Topic | None:
    kind, _, stem = name.rpartition("/")
    for folder in KINDS:
        # Names come from command lines and events: only those of files that are there lead to one.
        if kind in ("", folder) and stem in _stems(folder):
            path = TOPICS / folder / f"{stem}.md"
            item = settings().get(stem) if folder == "settings" else None
            return parse(path.read_text(encoding="utf-8"), stem, folder, item)
    return None


def parse(text: str, name: str, kind: str, item: SettingItem | None = None) -> Topic:
    """Return the topic in a file's text; of a setting, config.py tells the sentence and what is too high and low."""
    head, *rest = re.split(r"^## (.+)$", text, flags=re.MULTILINE)
    sections = {heading.strip(): body.strip() for heading, body in zip(rest[::2], rest[1::2], strict=True)}
    title, *paragraphs = [part.strip() for part in re.split(r"\n\s*\n|(?<=-->)\n|\n(?=<!--)", head.strip())]
    also = tuple(word.strip() for part in paragraphs if (told := _ALSO.match(part)) for word in told[1].split(","))
    paragraphs = [_one_line(part) if not part.startswith(("-", "|")) else part for part in paragraphs]
    paragraphs = [part for part in paragraphs if part and not _ALSO.match(part)]
    if item is None:
        first, *others = paragraphs or [""]
    else:
        first, others = item.about.meaning, paragraphs
        for heading, words in (("Too high", item.about.too_high), ("Too low", item.about.too_low)):
            if words:
                sections[heading] = f"{words[0].upper()}{words[1:]}. {sections.get(heading, '')}".strip()
    ordered = {heading: sections[heading] for heading in (*SECTIONS, *sections) if heading in sections}
    return Topic(name, kind, title.removeprefix("#").strip(), first, "\n\n".join(others), ordered, also)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _filled(text: str, values: Mapping[str, str]) -> str:
    paragraphs = [part for part in re.split(r"\n\s*\n", text) if part.strip()]
    known = list(_known(paragraphs, values))
    if not known:
        return NO_FIGURES
    whose = [f"*These are figures of {values['run']}.*"] if "run" in values else []
    return "\n\n".join([*whose, *known])


def _known(paragraphs: list[str], values: Mapping[str, str]) -> Iterator[str]:
    for part in paragraphs:
        if all(name in values for name in _PLACEHOLDER.findall(part)):
            yield _PLACEHOLDER.sub(lambda found: values[found[1]], part)


def _said(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:g}" if isinstance(value, float) else str(value)
