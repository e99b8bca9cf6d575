"""The house: imports only ever point up the list, the core knows no screen, and most of it no torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "minigpt"

# Top to bottom: each may import what stands above it, and its own folder.
ROOMS = [
    "errors",
    "config",
    "workspace",
    "presets",
    "device",
    "readings",
    "events",
    "lock",
    "jobs",
    "summary",
    "pace",
    "curves",
    "runs",
    "narration",
    "history",
    "start",
    "text",
    "model",
    "inference",
    "training",
    "interop",
    "bench",
    "cli",
]
TORCH_FREE = ["errors", "config", "presets", "workspace", "device", "jobs", "runs", "narration", "text.prepare"]
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
