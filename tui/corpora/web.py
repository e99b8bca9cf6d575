"""A page by its address: fetched by a process that can be killed, shown, and then kept or not."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path

import msgspec
from textual.widget import Widget
from textual.widgets import Button, Checkbox, Input, Static

from minigpt.errors import UserError, printable
from tui.corpora.adding import AddForm, Addition, row, stem_of
from tui.corpora.children import in_thread, scratch_file
from tui.corpora.documents import Ask
from tui.corpora.page import Page
from tui.corpora.wrapping import plain


class Tick(Checkbox):
    """A box whose mark tells its state without any colour."""

    BUTTON_INNER = " "

    def watch_value(self) -> None:
        self.BUTTON_INNER = "X" if self.value else " "
        super().watch_value()
        self.refresh()


class Preview(msgspec.Struct):
    """The answer of `minigpt corpus preview`; how many characters a large file has is not known before it is read."""

    title: str = ""
    kind: str = ""
    origin: str = ""
    text: str = ""
    characters: int | None = 0
    notes: list[str] = []


class WebForm(AddForm):
    """Fetches a page and shows it; only then can it be kept."""

    TITLE_TEXT = "Add text: a web page"
    ADD = "Fetch"
    DEFAULT_CSS = """
    WebForm {
        & > .form { height: 95%; max-height: 44; }
        Page { height: 1fr; min-height: 3; background: $panel; padding: 0 1; }
        Tick { width: auto; margin-right: 3; background: transparent; border: none; padding: 0; }
    }
    """

    def __init__(self, taken: Iterable[str], ask: Ask, folder: Path) -> None:
        super().__init__(taken)
        self.ask, self.folder = ask, folder
        self.fetched: tuple[str, Preview, Path] | None = None  # what was asked, what came, where it lies

    def fields(self) -> Iterable[Widget]:
        return [
            row("address", Input(id="url", compact=True, placeholder="https://en.wikipedia.org/wiki/…")),
            row("", Tick("keep the page's source, not only its main text", id="as_is", compact=True)),
            row("", Tick("allow addresses in this machine's own network", id="private", compact=True)),
            Static(id="head", classes="hint", markup=False),
            Page("How the page's text begins. Keep takes all of it."),
        ]

    def on_mount(self) -> None:
        self.query_one("#url", Input).focus()
        self._say_head("Enter fetches the page and shows it here; nothing is kept before you say so.")

    @property
    def _request(self) -> tuple[str, ...]:
        """What is to be fetched, as arguments."""
        flags = [flag for name, flag in (("as_is", "--as-is"), ("private", "--allow-private")) if self._is_on(name)]
        return (self.value("url"), *flags)

    def _is_on(self, name: str) -> bool:
        return self.query_one(f"#{name}", Checkbox).value

    def on_input_changed(self, event: Input.Changed) -> None:
        if event.input.id == "url":
            self.suggest(stem_of(event.value))
            self._name_button()

    def on_checkbox_changed(self, event: Checkbox.Changed) -> None:
        event.stop()
        self._name_button()

    def _name_button(self) -> None:
        fetched = self.fetched is not None and self.fetched[0] == "\n".join(self._request)
        self.query_one("#add", Button).label = "Keep" if fetched else "Fetch"

    def _add(self) -> None:
        if self.fetched is None or self.fetched[0] != "\n".join(self._request):
            self._fetch()
        else:
            super()._add()

    def _fetch(self) -> None:
        request = self._request
        if not request[0]:
            raise UserError("Write the address of a page.")
        if "://" not in request[0]:
            raise UserError("An address begins with https:// or http://.")
        self.say("")
        self._say_head(f"Fetching {request[0]} …  Esc gives up.")
        work = partial(fetched, self.ask, request, self.folder)
        in_thread(self, work, partial(self._take, "\n".join(request)), self._fail, "fetch")

    def _take(self, request: str, found: tuple[Preview, Path]) -> None:
        preview, path = found
        self.fetched = (request, preview, path)
        self.scratch.append(path)
        length = "a large file" if preview.characters is None else f"{preview.characters:,} characters"
        self._say_head("\n".join([f"{preview.title or preview.origin}: {length}", *preview.notes]))
        more = " …" if preview.characters is None or preview.characters > len(preview.text) else ""
        self.query_one(Page).show(plain(preview.text + more))
        if preview.title:
            self.suggest(preview.title.lower())
        self._name_button()
        self.query_one("#add", Button).focus()

    def _fail(self, problem: str) -> None:
        self._say_head("")
        self.say(problem.replace("add --allow-private", "tick the box for addresses in this machine's own network"))

    def _say_head(self, text: str) -> None:
        self.query_one("#head", Static).update(printable(text))

    def addition(self, name: str, flags: tuple[str, ...]) -> Addition | None:
        assert self.fetched is not None
        _, preview, path = self.fetched
        return Addition(name, str(path), (*flags, f"--origin={preview.origin}"), path)


def fetched(ask: Ask, request: tuple[str, ...], folder: Path) -> tuple[Preview, Path]:
    """Fetch a page into a file; return how it begins and where it lies."""
    path = scratch_file(folder, "page")
    url, *flags = request
    try:
        answer = ask(["corpus", "preview", url, *flags, f"--into={path}", "--json"], "")
        return msgspec.convert(answer, Preview), path
    except BaseException:
        # Given up or refused: the file is nobody's.
        path.unlink(missing_ok=True)
        raise
