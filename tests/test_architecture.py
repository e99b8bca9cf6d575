"""The house: imports only ever point up the list, the core knows no screen, and most of it and the app no torch."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from textual.binding import Binding

from minigpt import learn
from tui.view import CHARTS

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "minigpt"
APP = ROOT / "tui"

# Top to bottom: each may import what stands above it, and its own folder.
ROOMS = [
    "errors",
    "notices",
    "config",
    "workspace",
    "presets",
    "preset_files",
    "host",
    "device",
    "readings",
    "reserve",
    "events",
    "event_writer",
    "commands",
    "lock",
    "jobs",
    "tasks",
    "summary",
    "refusals",
    "pace",
    "curves",
    "runs",
    "narration",
    "history",
    "learn",
    "post_mortem",
    "digest",
    "start",
    "text",
    "model",
    "advice",
    "comparing",
    "inference",
    "training",
    "planning",
    "interop",
    "bench",
    "cli",
]
TORCH_FREE = ["errors", "config", "presets", "workspace", "device", "jobs", "runs", "narration", "text.prepare"]
TORCH_FREE += ["advice", "learn", "cli.learn", "cli.tokenizer", "text.tokenizer_facts"]
TORCH_FREE += ["readings", "text.sample", "cli.main", "cli.train", "cli.runs", "cli.corpus", "cli.talk", "cli.presets"]


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def imported(path: Path) -> set[str]:
    """Return the names of modules that a file imports, those inside functions too, but for type checking alone."""
    tree = ast.parse(path.read_text())
    skipped = {
        id(node)
        for test in ast.walk(tree)
        if isinstance(test, ast.If) and "TYPE_CHECKING" in ast.dump(test.test)
        for node in ast.walk(test)
    }
    names: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_up(path: Path) -> None:
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for name in imported(path):
        parts = name.split(".")
        if parts[0] == "minigpt" and len(parts) > 1 and parts[1] in ROOMS:
            assert ROOMS.index(parts[1]) <= ROOMS.index(room), f"{room} imports {name}"
        assert parts[0] not in ("textual", "tui"), f"the core imports {name}"


def test_every_module_has_its_place() -> None:
    tops = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in modules()}
    assert tops - {"builtin_presets"} == set(ROOMS)


def test_most_of_it_needs_no_torch() -> None:
    lines = "; ".join(f"import minigpt.{module}" for module in TORCH_FREE)
    script = f"import sys; {lines}; sys.exit('torch' in sys.modules or 'textual' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0


# The app

APP_USES = {"minigpt", "tui", "textual", "rich", "plotext", "numpy", "msgspec", "tomli"}


def app_modules() -> list[str]:
    paths = sorted(path.relative_to(ROOT).with_suffix("") for path in APP.rglob("*.py"))
    return [".".join(path.parts).removesuffix(".__init__") for path in paths]


def bindings() -> Iterator[tuple[str, Binding]]:
    """Yield every binding that the app's own classes make, with the name of its class."""
    for name in app_modules():
        for made in vars(importlib.import_module(name)).values():
            if isinstance(made, type) and made.__module__ == name:
                for binding in vars(made).get("BINDINGS", ()):
                    yield made.__name__, binding


@pytest.mark.parametrize("module", app_modules())
def test_the_app_uses_little(module: str) -> None:
    path = ROOT.joinpath(*module.split("."))
    for name in imported(path / "__init__.py" if path.is_dir() else path.with_suffix(".py")):
        top = name.partition(".")[0]
        assert top in APP_USES or top in sys.stdlib_module_names, f"{module} imports {name}"


def test_the_app_needs_no_torch() -> None:
    lines = "; ".join(f"import {module}" for module in app_modules())
    script = f"import sys; {lines}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT).returncode == 0


def test_every_key_can_be_changed_and_explains_itself() -> None:
    for owner, binding in bindings():
        assert isinstance(binding, Binding), f"{owner}: {binding} is no Binding"
        assert binding.id and binding.tooltip, f"{owner}: {binding.key} ({binding.action})"


def test_no_two_keys_share_an_id() -> None:
    counts = Counter(binding.id for _, binding in bindings())
    assert len(counts) > 50
    assert [name for name, count in counts.items() if count > 1] == []


def test_every_figure_is_explained() -> None:
    tree = ast.parse((APP / "figures.py").read_text())
    makers = {"_row", "_progress", "Row"}
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and getattr(node.func, "id", "") in makers]
    keys = {call.args[0].value for call in calls if isinstance(call.args[0], ast.Constant)}
    assert keys >= {"step", "left", "loss", "validation", "gpu", "ram", "log", "evaluations"}
    assert [key for key in keys if learn.sentence(f"metrics/{key}") is None] == []


def test_every_chart_is_explained() -> None:
    assert [name for name in CHARTS if learn.sentence(f"metrics/{name}_chart") is None] == []
