"""What the model said at each look, browsable by step and by opening."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Protocol

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static


class SampleLike(Protocol):
    """A text that a model wrote to a prompt at a step."""

    @property
    def step(self) -> int: ...
    @property
    def prompt(self) -> str: ...
    @property
    def text(self) -> str: ...


class Diary(VerticalScroll, can_focus=True):
    """Shows one sample; the newest unless the person went back."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "earlier", "Earlier", show=False, id="diary.earlier", tooltip="What it said before"),
        Binding("right", "later", "Later", show=False, id="diary.later", tooltip="What it said afterwards"),
        Binding("up", "opening(-1)", "Opening", show=False, id="diary.up", tooltip="The opening before"),
        Binding("down", "opening(1)", "Opening", show=False, id="diary.down", tooltip="The next opening"),
        Binding("home", "first", "First", show=False, id="diary.first", tooltip="What it said at step 0"),
        Binding("end", "last", "Last", show=False, id="diary.last", tooltip="What it says now"),
    ]
    explain = ""

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self.samples: list[SampleLike] = []
        self.prompt: str | None = None
        self.step: int | None = None  # None: the newest
        self._painted: tuple[int, str, str, str] | None = None

    def compose(self) -> ComposeResult:
        yield Static()

    def show(self, samples: Sequence[SampleLike]) -> None:
        """Replace the samples; the one in view stays in view."""
        self.samples = list(samples)
        self._paint()

    @property
    def current(self) -> SampleLike | None:
        """The sample in view."""
        mine = self._of_prompt()
        if self.step is None:
            return mine[-1] if mine else None
        return next((sample for sample in reversed(mine) if sample.step <= (self.step or 0)), mine[0] if mine else None)

    @property
    def text(self) -> str:
        return "" if self.current is None else self.current.prompt + self.current.text

    def prompts(self) -> list[str]:
        """The openings, in the order they first came."""
        return list(dict.fromkeys(sample.prompt for sample in self.samples))

    def action_earlier(self) -> None:
        self._go(-1)

    def action_later(self) -> None:
        self._go(1)

    def action_first(self) -> None:
        mine = self._of_prompt()
        self.step = mine[0].step if mine else None
        self._paint()

    def action_last(self) -> None:
        self.step = None
        self._paint()

    def action_opening(self, by: int) -> None:
        prompts = self.prompts()
        if prompts:
            now = prompts.index(self.prompt) if self.prompt in prompts else 0
            self.prompt = prompts[(now + by) % len(prompts)]
            self._paint()

    def _of_prompt(self) -> list[SampleLike]:
        prompts = self.prompts()
        prompt = self.prompt if self.prompt in prompts else (prompts[0] if prompts else None)
        # Said twice at a step, the later counts: a look that was asked for, or the last of a run.
        return list({sample.step: sample for sample in self.samples if sample.prompt == prompt}.values())

    def _go(self, by: int) -> None:
        mine = self._of_prompt()
        if not mine or self.current is None:
            return
        index = next(i for i, sample in enumerate(mine) if sample is self.current) + by
        # Past the newest, follow the newest.
        self.step = mine[max(0, index)].step if index < len(mine) - 1 else None
        self._paint()

    def _paint(self) -> None:
        sample = self.current
        if sample is None:
            painted = (-1, "", "", "sample")
        else:
            steps = list(dict.fromkeys(one.step for one in self._of_prompt()))
            where = f"sample @ step {sample.step:,} ({steps.index(sample.step) + 1} of {len(steps)})"
            painted = (sample.step, sample.prompt, sample.text, where)
        if painted == self._painted:
            return
        self._painted = painted
        self.border_title = Content(painted[3])
        text = Content.assemble((painted[1], "$foreground-muted"), painted[2])
        self.query_one(Static).update(text if sample else Content("What the model says will stand here."))
