from __future__ import annotations

import json
import sys

import pytest

from minigpt.cli.main import main
from minigpt.planning import fit as fitting
from minigpt.planning.fit import Setup, Trial, batch_settings, conclude, predicted_peak, search, sizes
from minigpt.tasks import NOBODY
from minigpt.text.sources import add_path
from minigpt.workspace import Workspace
from tests.conftest import run_minigpt, small_config

MB = 1_000_000
PRESET = """\
# a model of a second
[corpus]
name = "tale"
[tokenizer]
kind = "char"
[model]
d_model = 32
n_layers = 2
n_heads = 2
max_seq_len = 16
[training]
batch_size = 2
gradient_accumulation_steps = 3  # six windows a step
max_steps = 12
threads = 1
"""


class Machine:
    """Memory that a base and each window take; what does not fit is refused."""

    def __init__(self, base: int, each: int, room: int, kind: str = "cuda") -> None:
        self.base, self.each = base, each
        self.setup = Setup("a machine", kind, 64, room)
        self.tried: list[int] = []

    def attempt(self, windows: int, room: int) -> Trial:
        self.tried.append(windows)
        peak = self.base + windows * self.each
        return Trial(windows, peak <= room, peak if peak <= room else None, 1000.0 * windows)


def largest(machine: Machine, effective: int) -> int:
    trials = search(sizes(effective), machine.setup, machine.attempt)
    return max((trial.windows for trial in trials if trial.fits), default=0)


@pytest.mark.parametrize("effective", [1, 2, 7, 12, 64, 480])
@pytest.mark.parametrize("room", [5, 11, 12, 17, 31, 100, 250, 10_000])
@pytest.mark.parametrize("kind", ["cuda", "cpu"])
def test_the_largest_that_fits_is_found(effective: int, room: int, kind: str) -> None:
    machine = Machine(10, 1, room, kind)
    assert largest(machine, effective) == max((one for one in sizes(effective) if 10 + one <= room), default=0)


def test_few_trials_are_needed() -> None:
    machine = Machine(10, 1, 300)
    assert largest(machine, 480) == 240
    assert len(machine.tried) <= 8


def test_on_a_cpu_nothing_is_tried_that_is_known_not_to_fit() -> None:
    machine = Machine(10 * MB, 7 * MB, 100 * MB, "cpu")
    assert largest(machine, 64) == 11
    assert max(10 * MB + windows * 7 * MB for windows in machine.tried) <= 100 * MB


def test_a_leap_is_never_far_beyond_what_was_tried() -> None:
    # Two small sizes that take the same say nothing of large ones.
    machine = Machine(10, 0, 100, "cpu")
    search(sizes(4096), machine.setup, machine.attempt)
    assert all(later <= 8 * max(machine.tried[:place]) for place, later in enumerate(machine.tried) if place)


def test_sizes_differ_in_the_number_of_parts_that_they_make() -> None:
    assert sizes(12) == [1, 2, 3, 4, 6, 12]
    assert sizes(7) == [1, 2, 3, 4, 7]
    assert len(sizes(65536)) < 520


@pytest.mark.parametrize(("effective", "windows"), [(64, 16), (64, 64), (61, 1), (61, 31), (12, 4)])
def test_the_effective_batch_stays(effective: int, windows: int) -> None:
    changes = batch_settings(effective, windows)
    assert changes["training.batch_size"] * changes["training.gradient_accumulation_steps"] == effective
    assert changes["training.micro_batch_size"] == windows <= changes["training.batch_size"]


def test_a_line_through_two_peaks_foretells_the_next() -> None:
    trials = [Trial(1, True, 110), Trial(2, True, 120), Trial(9, False)]
    assert predicted_peak(trials, 8) == 180
    assert predicted_peak(trials[:1], 8) is None


def test_what_does_not_fit_at_all_is_said_with_what_to_do() -> None:
    found = conclude("tiny", "", Setup("cuda", "cuda", 8, 5 * MB), [Trial(1, False)])
    assert (found.changes, found.micro_batch_size) == ({}, 0)
    assert "gradient_checkpointing" in found.text


def test_a_smaller_size_that_is_faster_is_named() -> None:
    setup = Setup("cpu", "cpu", 8, 100 * MB)
    found = conclude(
        "tiny", "", setup, [Trial(1, True, MB, 900.0), Trial(4, True, MB, 3000.0), Trial(8, True, MB, 1000.0)]
    )
    assert found.micro_batch_size == 8
    assert "4 at once is 3.0 times as fast" in found.text


@pytest.fixture
def presets(workspace: Workspace) -> Workspace:
    workspace.configs.mkdir()
    (workspace.configs / "mine.toml").write_text(PRESET)
    return workspace


def test_a_child_that_takes_more_than_the_room_is_ended(workspace: Workspace) -> None:
    hungry = [
        sys.executable,
        "-c",
        "b = bytearray(10**6); import time\nwhile True: b += bytes(10**6); time.sleep(0.001)",
    ]
    assert fitting._run(hungry, NOBODY, "eating", 60 * MB) is None


def test_a_child_that_fails_says_why(workspace: Workspace) -> None:
    from minigpt.errors import UserError

    broken = [sys.executable, "-c", "import sys; print('No such text: add it.', file=sys.stderr); sys.exit(2)"]
    with pytest.raises(UserError, match="No such text"):
        fitting._run(broken, NOBODY, "failing", None)


def test_a_trial_is_real_steps(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minigpt.training.trainer.peak_flops", lambda device: (1e12, "not measured"))
    from minigpt.planning.trial import describe_setup, try_windows
    from minigpt.training.session import Session

    session = Session.new(workspace, small_config(training__gradient_accumulation_steps=3), say=lambda text: None)
    before = [weight.clone() for weight in session.model.parameters()]
    setup = describe_setup(session)
    trial = try_windows(session, 5)
    assert (setup.effective_batch, trial.windows, trial.fits) == (12, 5, True)
    assert trial.peak is not None and trial.peak < setup.room and trial.tokens_per_s is not None
    after = session.model.parameters()
    assert all((one != other).any() for one, other in zip(before, after, strict=True))


@pytest.mark.slow
def test_a_trial_has_a_process_of_its_own(presets: Workspace) -> None:
    told = run_minigpt("presets", "fit", "mine", "--trial", "3", workspace=presets.root)
    trial = json.loads(told.stdout)
    assert (trial["windows"], trial["fits"]) == (3, True)
    # Python with torch in it is beyond 100 MB whatever the model.
    assert trial["peak"] > 100 * MB
    assert trial["tokens_per_s"] > 0


def test_a_built_in_preset_is_not_written_into(presets: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["presets", "fit", "tiny", "--save", "--workspace", str(presets.root)]) == 2
    assert "presets new" in capsys.readouterr().err


@pytest.mark.slow
def test_fit_finds_saves_and_tells(presets: Workspace) -> None:
    told = run_minigpt("presets", "fit", "mine", "--save", "--json", workspace=presets.root, timeout=300)
    found = json.loads(told.stdout)
    assert found["changes"] == {
        "training.batch_size": 6,
        "training.gradient_accumulation_steps": 1,
        "training.micro_batch_size": 6,
    }
    text = (presets.configs / "mine.toml").read_text()
    assert "batch_size = 6" in text and "# six windows a step" in text
    assert found["trials"][-1]["windows"] == 6


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_what_is_too_large_for_the_room_is_refused_by_measure(
    presets: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real search over real children, the room just above what one window takes."""
    text = PRESET.replace("max_seq_len = 16", "max_seq_len = 128").replace("d_model = 32", "d_model = 128")
    (presets.configs / "mine.toml").write_text(text.replace("batch_size = 2", "batch_size = 16"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    (presets.root / "long.txt").write_text("".join(f"the {number} cat\n" for number in range(6000)))
    add_path(presets, presets.root / "long.txt")
    one = fitting.run_trial(presets, "mine", "long", 1, "cpu", 10**12, NOBODY)
    assert one.peak is not None
    setup = Setup("cpu", "cpu", 48, one.peak + 20 * MB)
    trials = search(
        [1, 48],
        setup,
        lambda windows, room: fitting.run_trial(presets, "mine", "long", windows, "cpu", room, NOBODY),
    )
    assert [(trial.windows, trial.fits) for trial in trials] == [(1, True), (48, False)]
