from __future__ import annotations

import errno
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import requests
from kagglehub import exceptions

from minigpt.errors import JobFailed, UserError
from minigpt.tasks import NOBODY, Cancelled, Task
from minigpt.text.hub import CredentialsMissing, FirstOf, SourceUnavailable
from minigpt.text.kaggle import KaggleSource
from minigpt.text.manifest import SourceRecord


class FakeKaggle(ModuleType):
    """In place of the library: it "downloads" a folder of the test, or raises what the library would."""

    def __init__(self, folder: Path) -> None:
        super().__init__("kagglehub")
        self.exceptions = exceptions
        self.folder = folder
        self.error: Exception | None = None
        self.asked: list[tuple[str, str | None]] = []
        self.hung: threading.Event | None = None

    def dataset_download(self, handle: str, path: str | None = None) -> str:
        self.asked.append((handle, path))
        if self.hung is not None:
            self.hung.wait()
        if self.error is not None:
            raise self.error
        return str(self.folder / path if path else self.folder)


@pytest.fixture
def kaggle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeKaggle:
    fake = FakeKaggle(tmp_path / "cache" / "datasets" / "ann" / "tales" / "versions" / "3")
    fake.folder.mkdir(parents=True)
    (fake.folder / "one.txt").write_text("Once upon a time.\n")
    (fake.folder / "more").mkdir()
    (fake.folder / "more" / "two.txt").write_text("And then.\n")
    (fake.folder / "cover.png").write_bytes(b"\x89PNG\x00")
    monkeypatch.setitem(sys.modules, "kagglehub", fake)
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "cache"))
    return fake


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def refusal(status: int) -> requests.HTTPError:
    response = requests.Response()
    response.status_code = status
    return exceptions.KaggleApiHTTPError(f"{status} Client Error.\n\nSee above.", response=response)


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_the_text_files_of_a_data_set_are_added(kaggle: FakeKaggle, out: Path) -> None:
    record = KaggleSource("ann/tales").write(out, NOBODY)
    assert kaggle.asked == [("ann/tales", None)]
    assert files(out) == ["more/two.txt", "one.txt"]
    assert (out / "one.txt").read_text() == "Once upon a time.\n"
    assert (record.kind, record.origin) == ("kaggle", "kaggle:ann/tales")
    assert f"What Kaggle sent is kept in {kaggle.folder}." in record.notes


@pytest.mark.parametrize(
    ("name", "handle", "file"),
    [
        ("ann/tales/more/two.txt", "ann/tales", "more/two.txt"),
        ("ann/tales/versions/3/one.txt", "ann/tales/versions/3", "one.txt"),
    ],
)
def test_one_file_of_it_may_be_asked_for(kaggle: FakeKaggle, out: Path, name: str, handle: str, file: str) -> None:
    KaggleSource(name).write(out, NOBODY)
    assert kaggle.asked == [(handle, file)]
    assert files(out) == [Path(file).name]


@pytest.mark.parametrize("name", ["", "tales", "ann/", "ann/tales/../../x", "https://www.kaggle.com/x", "a\x1b/b"])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="is no data set of Kaggle") as refused:
        KaggleSource(name)
    assert "\x1b" not in str(refused.value)


@pytest.mark.parametrize(
    "error",
    [
        exceptions.UnauthenticatedError(),
        exceptions.CredentialError("no token"),
        ValueError("Invalid Kaggle credentials file at /home/ann/.kaggle/kaggle.json"),
        refusal(401),
        refusal(403),
    ],
    ids=["nobody", "no token", "broken file", "401", "403"],
)
def test_missing_or_refused_credentials_tell_the_steps(kaggle: FakeKaggle, out: Path, error: Exception) -> None:
    kaggle.error = error
    with pytest.raises(CredentialsMissing, match="kaggle:ann/tales") as refused:
        KaggleSource("ann/tales").write(out, NOBODY)
    for step in (
        "kaggle.com/settings",
        "Create New Token",
        "~/.kaggle/kaggle.json",
        "chmod 600",
        "KAGGLE_USERNAME",
        "KAGGLE_KEY",
    ):
        assert step in str(refused.value)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (refusal(404), r"There is no kaggle:ann/tales: check the name at https://www\.kaggle\.com/datasets/ann/tales"),
        (refusal(503), "answered 503"),
        (requests.ConnectionError("Max retries exceeded"), "Kaggle cannot be reached"),
        (requests.Timeout("timed out"), "Kaggle cannot be reached"),
        (exceptions.BackendError("out of order\x1b[2J"), r"cannot be fetched \(out of order\\x1b\[2J\)"),
    ],
    ids=["404", "503", "no network", "slow", "backend"],
)
def test_what_cannot_be_had_is_told(kaggle: FakeKaggle, out: Path, error: Exception, said: str) -> None:
    kaggle.error = error
    with pytest.raises(SourceUnavailable, match=said):
        KaggleSource("ann/tales").write(out, NOBODY)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (exceptions.DataCorruptionError("the checksum differs"), "arrived damaged"),
        (OSError(errno.ENOSPC, "No space left on device"), "The disk is full"),
    ],
    ids=["damaged", "full"],
)
def test_a_download_that_goes_wrong_is_a_failed_job(kaggle: FakeKaggle, out: Path, error: Exception, said: str) -> None:
    kaggle.error = error
    with pytest.raises(JobFailed, match=said):
        KaggleSource("ann/tales").write(out, NOBODY)


def test_a_data_set_of_pictures_is_refused_by_what_it_holds(kaggle: FakeKaggle, out: Path) -> None:
    (kaggle.folder / "one.txt").unlink()
    (kaggle.folder / "more" / "two.txt").unlink()
    with pytest.raises(UserError, match=r"holds no text that can be read, only cover\.png"):
        KaggleSource("ann/tales").write(out, NOBODY)


def test_a_download_can_be_stopped(kaggle: FakeKaggle, out: Path) -> None:
    class Stopped(Task):
        def report(self, *progress: Any, **more: Any) -> None:
            raise Cancelled

    kaggle.hung = threading.Event()
    with pytest.raises(Cancelled):
        KaggleSource("ann/tales").write(out, Stopped())
    kaggle.hung.set()


def test_another_source_may_stand_in(kaggle: FakeKaggle, out: Path) -> None:
    class Other:
        kind, origin = "text", "pasted"

        def write(self, folder: Path, task: Task) -> SourceRecord:
            return SourceRecord(self.kind, self.origin)

    kaggle.error = refusal(404)
    assert "in place of kaggle:ann/tales" in FirstOf([KaggleSource("ann/tales"), Other()]).write(out, NOBODY).notes[0]


def test_a_missing_library_is_named(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    with pytest.raises(UserError, match=r'pip install "minigpt-tui\[hub\]"'):
        KaggleSource("ann/tales").write(out, NOBODY)
