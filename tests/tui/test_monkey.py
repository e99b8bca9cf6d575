"""Whatever is pressed, and whatever happens to the files meanwhile, nothing breaks."""

from __future__ import annotations

import asyncio
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from textual.pilot import Pilot

from minigpt.jobs import EVENTS
from tests.tui.scene import Scene, app_of, on_screen, settled

pytestmark = pytest.mark.every_frame

KEYS = (
    *"12345?sxrckeglztmvfynabdouw",
    *("f1", "f2", "f3", "f4", "f5", "f6", "f7"),
    *("space", "minus", "plus", "tab", "shift+tab", "enter", "escape", "backspace", "delete"),
    *("up", "down", "left", "right", "home", "end", "pageup", "pagedown", "shift+left", "shift+right"),
    *("ctrl+n", "ctrl+o", "ctrl+g", "ctrl+r", "ctrl+l", "ctrl+s", "ctrl+t", "ctrl+j", "ctrl+p"),
)
# The campaign presses more of them, for longer.
SEEDS = [
    (0, 100),
    *(pytest.param(seed, 500, marks=pytest.mark.slow) for seed in range(20, 28)),
]
SIZES = [(80, 24), (120, 40), (200, 60), (20, 5), (41, 12)]


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    async def no_model(self: object, place: object) -> None:
        """The keys may ask for a model; no test of keys needs one."""

    monkeypatch.setattr("tui.chat.session.ChatSession.ready", no_model)
    with Scene(tmp_path) as made:
        made.add_corpus()
        made.run("one-1", steps=120)
        made.work("one-1")
        made.run("two-1", steps=60, ended=0)
        made.checkpoint("two-1")
        made.run("three-1", steps=30)
        yield made


def mischief(scene: Scene, chance: random.Random) -> None:
    """Do to the files what a person, a full disk or another program might."""
    victim = scene.directory(chance.choice(["one-1", "two-1", "three-1"]))
    events = victim / EVENTS
    match chance.randrange(6):
        case 0:
            shutil.rmtree(victim, ignore_errors=True)
        case 1 if events.is_file():
            events.write_bytes(events.read_bytes()[: chance.randrange(2000)])
        case 2 if events.is_file():
            events.write_bytes(chance.randbytes(3000))
        case 3 if victim.is_dir():
            victim.chmod(0o000)
        case 4:
            (scene.workspace.data / "tale" / "corpus.toml").write_text("name = [")
        case _:
            shutil.rmtree(scene.workspace.checkpoints / ".app", ignore_errors=True)


async def mash(pilot: Pilot[None], scene: Scene, chance: random.Random, keys: int, cruel: bool) -> list[str]:
    pressed = []
    for count in range(keys):
        if not app_of(pilot).is_running or app_of(pilot).failure:
            break
        key = chance.choice(KEYS)
        pressed.append(key)
        await pilot.press(key)
        if count % 100 == 50:
            await pilot.resize_terminal(*chance.choice(SIZES))
        if cruel and count % 10 == 9:
            mischief(scene, chance)
        if count % 25 == 0:
            await settled(pilot)
    return pressed


@pytest.mark.parametrize(("seed", "keys"), SEEDS)
def test_random_keys_break_nothing(scene: Scene, seed: int, keys: int) -> None:
    async def run() -> None:
        async with on_screen(scene) as pilot:
            pressed = await mash(pilot, scene, random.Random(seed), keys, cruel=False)
            assert app_of(pilot).failure is None, f"{scene.crash_log}\nafter {pressed[-12:]}"

    asyncio.run(run())


@pytest.mark.slow
@pytest.mark.parametrize("seed", [10, pytest.param(11, marks=pytest.mark.slow)])
def test_nor_do_files_that_change_underneath(scene: Scene, seed: int) -> None:
    async def run() -> None:
        async with on_screen(scene) as pilot:
            pressed = await mash(pilot, scene, random.Random(seed), 150, cruel=True)
            assert app_of(pilot).failure is None, f"{scene.crash_log}\nafter {pressed[-12:]}"

    asyncio.run(run())
