"""The overlay in which topics are read: links are followed by keyboard, and the way back is remembered.

app.push_screen(TopicReader(Page("loss"), figures))
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.events import Resize
from textual.screen import ModalScreen
from textual.widgets import Markdown, Static
from textual.worker import Worker, WorkerState

from minigpt.learn import sentence, topic
from tui.learn.contents import Contents

# Not a topic: the list of all of them.
CONTENTS = "contents"
CONTENTS_TITLE = "All topics"
HINT = "Tab link · Enter follow · Backspace back · F1 contents · Esc close"
SHORT_HINT = "Tab link · Enter follow · Esc close"
NARROW, LOW = 76, 12


@dataclass(frozen=True)
class Page:
    """A topic by its name or, with `text`, a page of its own; `link` and `scrolled` are where the reader was."""

    name: str
    text: str = ""
    links: tuple[tuple[str, str], ...] = ()
    link: int = 0
    scrolled: float = 0.0


def help_page(title: str, text: str, topic_of_focus: str | None = None) -> Page:
    """Return a pane's help, with the ways to the topics below its keys."""
    links = [(CONTENTS_TITLE, CONTENTS), ("What is wrong?", "symptoms")]
    if topic_of_focus:
        links.insert(0, ("What has the focus", topic_of_focus))
    listed = "\n".join(f"- [{words}]({name})" for words, name in links)
    return Page(title, f"{text}\n\n**To read**\n\n{listed}\n", tuple(links))


class Links(Static):
    """The topics that a page points to, as many lines of them as fit; one is chosen, and in view."""

    DEFAULT_CSS = """
    Links { height: auto; border-top: solid $panel-lighten-2; color: $foreground-muted; }
    Links.-none { display: none; }
    """
    LINES = 3

    def __init__(self) -> None:
        super().__init__()
        self.links: tuple[tuple[str, str], ...] = ()
        self.chosen = 0

    def show(self, links: tuple[tuple[str, str], ...], chosen: int) -> None:
        self.links, self.chosen = links, chosen
        self.set_class(not links, "-none")
        self._lay()

    def on_resize(self) -> None:
        self._lay()

    def _lay(self) -> None:
        lines: list[Content] = []
        line, place = Content(""), 0
        for index, (words, _) in enumerate(self.links):
            # A sign beside the colours, which may be missing.
            text = f"{'▸' if index == self.chosen else ' '}{words} "
            link = Content.styled(text, "reverse" if index == self.chosen else "")
            if line and line.cell_length + link.cell_length > self.size.width:
                lines.append(line)
                line = Content("")
            place = len(lines) if index == self.chosen else place
            line += link
        first = max(0, min(place - 1, len(lines) + 1 - self.LINES))
        self.update(Content("\n").join([*lines, line][first : first + self.LINES]))


class TopicReader(ModalScreen[None]):
    """Shows one page after another; `figures` gives, in a thread, those of the run that is watched."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,question_mark", "dismiss", "Close", id="learn.close", tooltip="Back to where you were"),
        Binding("tab,right", "choose(1)", "Next link", id="learn.next", tooltip="Choose the next link", priority=True),
        Binding(
            "shift+tab,left", "choose(-1)", "Link before", id="learn.previous", tooltip="The link before", priority=True
        ),
        Binding("enter", "follow", "Follow", id="learn.follow", tooltip="Open the chosen link", priority=True),
        Binding("backspace,b", "back", "Back", id="learn.back", tooltip="The page before"),
        Binding("f1,c", "contents", "Contents", id="learn.contents", tooltip="All topics, and a search in them"),
    ]
    DEFAULT_CSS = """
    TopicReader { align: center middle; }
    TopicReader > Vertical {
        width: 95%; max-width: 104; height: 95%; border: round $primary; padding: 0 1; background: $surface;
    }
    TopicReader VerticalScroll { height: 1fr; scrollbar-size-vertical: 1; }
    TopicReader Markdown { margin: 0; padding: 0 1; background: $surface; }
    TopicReader.-low Links { display: none; }
    """

    def __init__(self, page: Page, figures: Callable[[], Mapping[str, str]] = dict) -> None:
        super().__init__()
        self.page, self.figures = page, figures
        self.before: list[Page] = []

    def compose(self) -> ComposeResult:
        with Vertical() as box:
            box.border_subtitle = HINT
            with VerticalScroll():
                yield Markdown("", open_links=False)
            yield Links()

    def on_mount(self) -> None:
        self.query_one(VerticalScroll).focus()
        self.open(self.page)

    def on_resize(self, event: Resize) -> None:
        self.set_class(event.size.height < LOW, "-low")
        self.query_one(Vertical).border_subtitle = HINT if event.size.width >= NARROW else SHORT_HINT

    # Pages

    def open(self, page: Page) -> None:
        """Show a page as soon as its file and the run's figures have been read."""
        self.page = page
        self.run_worker(
            lambda: self._read(page), name="topic", group="topic", thread=True, exclusive=True, exit_on_error=False
        )

    def _read(self, page: Page) -> tuple[Page, str, str]:
        """Return the page with its links, its title and its text."""
        if page.text:
            return page, page.name, page.text
        found = topic(page.name)
        return replace(page, links=found.links), found.title, found.markdown(self.figures()).partition("\n\n")[2]

    async def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        read: tuple[Page, str, str] | None = event.worker.result
        if event.worker.group != "topic" or event.state is not WorkerState.SUCCESS or read is None:
            return
        self.page, title, text = read
        self.query_one(Vertical).border_title = Content(title)
        self.query_one(Links).show(self.page.links, self.page.link)
        await self.query_one(Markdown).update(text)
        self.call_after_refresh(self._bring_to, self.page.scrolled)

    def _bring_to(self, place: float) -> None:
        for body in self.query(VerticalScroll):
            body.scroll_to(y=place, animate=False, force=True)

    def on_markdown_link_clicked(self, event: Markdown.LinkClicked) -> None:
        event.stop()
        self.go(event.href)

    def go(self, name: str | None) -> None:
        """Open a topic, or the contents; the page that is left can be come back to."""
        if name == CONTENTS:
            self.action_contents()
        elif name and sentence(name):
            self.before.append(replace(self.page, scrolled=self.query_one(VerticalScroll).scroll_y))
            self.open(Page(name))

    # Keys

    def action_choose(self, by: int) -> None:
        if self.page.links:
            self.page = replace(self.page, link=(self.page.link + by) % len(self.page.links))
            self.query_one(Links).show(self.page.links, self.page.link)

    def action_follow(self) -> None:
        if self.page.links:
            self.go(self.page.links[self.page.link][1])

    def action_back(self) -> None:
        if self.before:
            self.open(self.before.pop())

    def action_contents(self) -> None:
        self.app.push_screen(Contents(), self.go)
