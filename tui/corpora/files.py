"""Files on the machine where the app runs: a tree that reads a folder when it is opened, off the event loop."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from rich.text import Text
from textual.widget import Widget
from textual.widgets import Input, Tree
from textual.widgets.tree import TreeNode

from minigpt.errors import UserError, printable
from minigpt.narration import size
from tui.corpora.adding import AddForm, Addition, hint, row, stem_of
from tui.corpora.children import in_thread

SUFFIXES = (".txt", ".md", ".html", ".htm", ".json", ".jsonl", ".csv", ".parquet", ".bin", ".gz", ".zst")
# A folder may hold a million files: nobody looks through them one by one.
MOST_ENTRIES = 1000


class Entry(NamedTuple):
    """A file or folder, as it stands in the tree."""

    path: Path
    folder: bool
    bytes: int = 0


def entries(folder: Path) -> list[Entry]:
    """Return the folders in a folder, then the files that may hold text; raises OSError."""
    found = []
    with os.scandir(folder) as listed:
        for item in islice(listed, 100 * MOST_ENTRIES):
            if item.name.startswith("."):
                continue
            try:
                if item.is_dir():
                    found.append(Entry(Path(item.path), True))
                elif item.name.lower().endswith(SUFFIXES):
                    found.append(Entry(Path(item.path), False, item.stat().st_size))
            except OSError:
                continue  # a link to nowhere
    return sorted(found, key=lambda entry: (not entry.folder, entry.path.name.lower()))[:MOST_ENTRIES]


def listed(folder: Path) -> list[Entry]:
    """Return the entries of a folder; raises UserError with nothing but the reason, as a tree has room for."""
    try:
        return entries(folder)
    except OSError as error:
        raise UserError(error.strerror or "it cannot be read") from error


class FileTree(Tree[Entry]):
    """Folders and the files in them."""

    explain = (
        "Files on the machine where the app runs. Enter opens a folder; a file or folder under the cursor is taken."
    )

    def __init__(self, folder: Path) -> None:
        super().__init__(Text(printable(str(folder), single_line=True)), Entry(folder, True), id="tree")
        self.guide_depth = 2

    def on_mount(self) -> None:
        self.root.expand()

    def on_tree_node_expanded(self, event: Tree.NodeExpanded[Entry]) -> None:
        event.stop()
        node = event.node
        if node.data is None or node.children:
            return
        work = partial(listed, node.data.path)
        in_thread(self, work, partial(self._fill, node), partial(self._fail, node), f"folder {node.id}")

    def _fill(self, node: TreeNode[Entry], found: list[Entry]) -> None:
        if node.children:
            return
        for entry in found:
            name = printable(entry.path.name, single_line=True)
            if entry.folder:
                node.add(Text(f"{name}/"), entry)
            else:
                node.add_leaf(Text.assemble(name, (f"  {size(entry.bytes)}", "dim")), entry)
        if not found:
            node.add_leaf(Text("no text files here", "dim"))
        elif len(found) == MOST_ENTRIES:
            node.add_leaf(Text(f"the first {MOST_ENTRIES:,}; write the path of others", "dim"))

    def _fail(self, node: TreeNode[Entry], problem: str) -> None:
        node.add_leaf(Text(problem, "dim"))


class FilesForm(AddForm):
    """Adds a file or a folder."""

    TITLE_TEXT = "Add text: files on this machine"
    DEFAULT_CSS = """
    FilesForm {
        & > .form { height: 95%; max-height: 44; }
        #tree { height: 1fr; min-height: 3; background: $panel; padding: 0 1; scrollbar-size-vertical: 1; }
    }
    """

    def __init__(self, taken: Iterable[str], folder: Path) -> None:
        super().__init__(taken)
        self.folder = folder

    def fields(self) -> Iterable[Widget]:
        host = printable(platform.node(), single_line=True) or "HOST"
        lines = (
            f"These are files on {host}, where the app runs. From your own computer:\n"
            f"  scp book.txt {host}:\n"
            f"  cat book.txt | ssh {host} minigpt corpus add NAME -"
        )
        path = Input(id="path", compact=True, placeholder="a file, or a folder of them")
        tokenizer = Input(id="tokenizer", compact=True, placeholder="for .bin token shards: a tokenizer.json or a run")
        return [hint(lines), FileTree(self.folder), row("path", path), row("tokenizer", tokenizer)]

    def on_mount(self) -> None:
        self.query_one(FileTree).focus()

    def on_tree_node_highlighted(self, event: Tree.NodeHighlighted[Entry]) -> None:
        event.stop()
        if event.node.data is not None and event.node is not self.query_one(FileTree).root:
            self.query_one("#path", Input).value = str(event.node.data.path)

    def on_tree_node_selected(self, event: Tree.NodeSelected[Entry]) -> None:
        event.stop()
        if event.node.data is not None and not event.node.data.folder:
            self.query_one("#name", Input).focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        if event.input.id == "path":
            self.suggest(stem_of(event.value))

    def addition(self, name: str, flags: tuple[str, ...]) -> Addition | None:
        path = self.value("path")
        if "\0" in path:
            raise UserError("That is no path (there is a NUL in it): write another one.")
        if not path:
            raise UserError("No file is chosen: move to one in the tree, or write its path.")
        try:
            tokenizer = self.value("tokenizer")
            flags += ("--tokenizer-file", tokenizer) if tokenizer else ()
            return Addition(name, str(Path(path).expanduser().absolute()), flags)
        except (RuntimeError, OSError, ValueError) as error:
            raise UserError(f"{path} is no path ({error}): write another one.") from error
