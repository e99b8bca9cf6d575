from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from minigpt.errors import JobFailed, UserError
from minigpt.tasks import NOBODY, Cancelled, Task
from minigpt.text.hub import CredentialsMissing, FirstOf, HubSource, SourceUnavailable
from minigpt.text.hub_parts import JsonlParts
from minigpt.text.manifest import SourceRecord
from minigpt.text.reading import Reading
from minigpt.text.waiting import Worker

Row = dict[str, Any]


def texts(count: int, start: int = 0) -> list[Row]:
    return [
        {"text": f"Story {number}: " + "once upon a time. " * (number % 7)} for number in range(start, start + count)
    ]


def parquet(path: Path, rows: list[Row]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=50)
    return path


def jsonl(path: Path, rows: list[Row]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def stories(tmp_path: Path) -> Path:
    """A folder in Hugging Face's layout: 300 stories in two files."""
    folder = tmp_path / "stories"
    parquet(folder / "train-00000.parquet", texts(150))
    parquet(folder / "train-00001.parquet", texts(150, start=150))
    return folder


@pytest.fixture
def languages(tmp_path: Path) -> Path:
    """A folder with two configs."""
    folder = tmp_path / "languages"
    for name in ("en", "de"):
        jsonl(folder / name / "train.jsonl", [{"text": f"{name} {number}"} for number in range(3)])
    (folder / "README.md").write_text(
        "---\nconfigs:\n- config_name: en\n  data_files: en/*\n- config_name: de\n  data_files: de/*\n---\n"
    )
    return folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def source(name: Path | str, **options: Any) -> HubSource:
    return HubSource(str(name), **{"target_characters": None, **options})


def lines(folder: Path) -> list[Row]:
    return [json.loads(line) for path in sorted(folder.glob("*.jsonl")) for line in path.read_text().splitlines()]


class Listener(Task):
    """Remembers what it is told; asks for an end after some reports."""

    def __init__(self, reports: int = 1_000_000) -> None:
        self.notices: list[str] = []
        self.done = 0.0
        self._left = reports

    def report(self, phase: str, done: float = 0, total: float | None = None, unit: str = "") -> None:
        self.done = max(self.done, done)
        self._left -= 1
        if self._left < 0:
            raise Cancelled

    def notice(self, message: str) -> None:
        self.notices.append(message)


def test_a_data_set_becomes_jsonl_in_its_order(stories: Path, out: Path) -> None:
    record = source(stories).write(out, NOBODY)
    assert lines(out) == texts(300)
    assert record == SourceRecord("huggingface", f"hf:{stories}", reading=Reading("field", "text"))


def test_jsonl_files_work_as_parquet_does(tmp_path: Path, out: Path) -> None:
    jsonl(tmp_path / "set" / "train.jsonl", texts(5))
    source(tmp_path / "set").write(out, NOBODY)
    assert lines(out) == texts(5)


def test_a_folder_may_be_named_from_the_current_one(
    stories: Path, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source("./stories").write(out, NOBODY)
    assert len(lines(out)) == 300


@pytest.mark.parametrize(
    ("row", "column"),
    [
        ({"id": "a very long name of a row", "text": "short"}, "text"),
        ({"title": "a long title of a story", "story": "short"}, "story"),
        ({"Content": "short", "url": "https://example.org/a/long/address"}, "Content"),
        ({"url": "short", "essay": "the longest of all strings here"}, "essay"),
        ({"text": 17, "essay": "a number is no text"}, "essay"),
    ],
)
def test_the_column_of_text_is_guessed(tmp_path: Path, out: Path, row: Row, column: str) -> None:
    parquet(tmp_path / "set" / "train.parquet", [row] * 3)
    record = source(tmp_path / "set").write(out, NOBODY)
    assert lines(out) == [{"text": row[column]}] * 3
    assert any(f"came from the column {column}." in note for note in record.notes) == (column != "text")


def test_the_column_asked_for_is_taken(tmp_path: Path, out: Path) -> None:
    parquet(tmp_path / "set" / "train.parquet", [{"text": "no", "summary": "yes"}])
    source(tmp_path / "set", field="summary").write(out, NOBODY)
    assert lines(out) == [{"text": "yes"}]


@pytest.mark.parametrize(
    ("column", "turns"),
    [
        ("messages", [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]),
        ("conversations", [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]),
        ("messages", {"role": ["user", "assistant"], "content": ["Hi", "Hello"]}),
        (
            "messages",
            [
                {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
                {"role": "assistant", "content": [{"type": "text", "text": "Hello"}]},
            ],
        ),
    ],
)
def test_chats_become_conversations(tmp_path: Path, out: Path, column: str, turns: object) -> None:
    parquet(tmp_path / "set" / "train.parquet", [{"text": "rendered already", column: turns}])
    record = source(tmp_path / "set").write(out, NOBODY)
    assert lines(out) == [{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}]
    assert record.reading == Reading("messages", "messages")


def test_a_system_message_goes_before_the_first_question(tmp_path: Path, out: Path) -> None:
    chat = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}]
    alone = [{"role": "user", "content": "Bye"}, {"role": "system", "content": "Be gone."}]
    parquet(tmp_path / "set" / "train.parquet", [{"messages": chat}, {"messages": alone}])
    record = source(tmp_path / "set").write(out, NOBODY)
    assert [line["messages"] for line in lines(out)] == [
        [{"role": "user", "content": "Be kind.\n\nHi"}],
        [{"role": "user", "content": "Bye"}],
    ]
    assert len([note for note in record.notes if "1 system messages" in note]) == 2


def test_a_chat_with_somebody_unknown_is_left_out_and_named(tmp_path: Path, out: Path) -> None:
    rows = [{"messages": [{"role": role, "content": "Hi"}]} for role in ("user", "tool")]
    parquet(tmp_path / "set" / "train.parquet", rows)
    record = source(tmp_path / "set").write(out, NOBODY)
    assert len(lines(out)) == 1
    assert len(record.notes) == 1
    assert "1 of 2 rows were left out (row 2: " in record.notes[0] and "tool" in record.notes[0]


def test_columns_of_questions_and_answers_become_conversations(tmp_path: Path, out: Path) -> None:
    rows = [{"id": "1", "question": "Why?", "answer": "Because."}, {"id": "2", "question": "", "answer": "No."}]
    parquet(tmp_path / "set" / "train.parquet", rows)
    record = source(tmp_path / "set").write(out, NOBODY)
    turns = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Because."}]
    assert lines(out) == [{"messages": turns}]
    assert record.notes[0] == "Its messages came from the column question+answer."


def test_rows_without_text_are_counted_and_the_first_named(tmp_path: Path, out: Path) -> None:
    rows: list[Row] = [{"text": text} for text in ("one", None, "", "two", None, "  \n", None)]
    parquet(tmp_path / "set" / "train.parquet", rows)
    record = source(tmp_path / "set").write(out, NOBODY)
    assert lines(out) == [{"text": "one"}, {"text": "two"}]
    assert record.notes == ["5 of 7 rows were left out (row 2: no text; row 3: no text; row 5: no text)."]


def test_it_stops_at_the_target(stories: Path, out: Path) -> None:
    listener = Listener()
    record = source(stories, target_characters=1000).write(out, listener)
    taken = lines(out)
    assert taken == texts(300)[: len(taken)]
    assert sum(len(line["text"]) for line in taken[:-1]) < 1000 <= sum(len(line["text"]) for line in taken)
    assert "as asked" in record.notes[0]


def test_the_end_before_the_target_is_said(stories: Path, out: Path) -> None:
    record = source(stories, target_characters=1_000_000).write(out, NOBODY)
    assert "before the 1,000,000 asked for" in record.notes[0]


def test_progress_is_told_in_characters(tmp_path: Path, out: Path) -> None:
    parquet(tmp_path / "set" / "train.parquet", texts(2000))
    listener = Listener()
    source(tmp_path / "set").write(out, listener)
    assert 0 < listener.done <= sum(len(line["text"]) for line in texts(2000))


def test_parts_stay_small(tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minigpt.text.hub_parts.PART_BYTES", 10_000)
    parquet(tmp_path / "set" / "train.parquet", texts(2000))
    source(tmp_path / "set").write(out, NOBODY)
    assert lines(out) == texts(2000)
    names = sorted(path.name for path in out.iterdir())
    assert names == [f"part-{number:05}.jsonl" for number in range(len(names))]
    assert len(names) > 2


def test_a_later_attempt_goes_on_after_the_last_whole_part(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("minigpt.text.hub_parts.PART_BYTES", 60_000)
    parquet(tmp_path / "set" / "train-0.parquet", [*texts(1700), {"text": None}])
    parquet(tmp_path / "set" / "train-1.parquet", texts(1500, start=1700))
    with pytest.raises(Cancelled):
        source(tmp_path / "set").write(out, Listener(reports=8))
    whole = {path.name: path.stat().st_mtime_ns for path in sorted(out.glob("*.jsonl"))[:-1]}
    assert whole

    record = source(tmp_path / "set").write(out, NOBODY)
    assert lines(out) == texts(3200)
    assert {name: (out / name).stat().st_mtime_ns for name in whole} == whole
    assert record.notes == ["1 of 3,201 rows were left out (row 1,701: no text)."]
    assert not [path for path in out.iterdir() if path.suffix != ".jsonl"]


def test_parts_of_another_choice_are_not_gone_on_with(
    tmp_path: Path, languages: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("minigpt.text.hub_parts.PART_BYTES", 60_000)
    parquet(tmp_path / "set" / "train.parquet", texts(3000))
    with pytest.raises(Cancelled):
        source(tmp_path / "set").write(out, Listener(reports=6))
    source(languages, config="en").write(out, NOBODY)
    assert len(lines(out)) == 3


def test_half_a_character_is_replaced(out: Path) -> None:
    parts = JsonlParts(out, "stream")
    parts.add({"messages": [{"role": "user", "content": "a\ud83d"}]})
    parts.finish()
    assert lines(out) == [{"messages": [{"role": "user", "content": "a?"}]}]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "has several configs: choose one of en, de with --config"),
        ({"config": "fr"}, "has no config 'fr': choose one of en, de with --config"),
        ({"config": "en", "split": "test"}, "has no split 'test': choose one of train with --hf-split"),
        ({"config": "en", "field": "story"}, "has no column of text 'story': choose one of text with --field"),
    ],
)
def test_a_wrong_choice_names_what_there_is(languages: Path, out: Path, options: Row, said: str) -> None:
    with pytest.raises(UserError, match=said):
        source(languages, **options).write(out, NOBODY)


def test_a_split_is_chosen_by_name(tmp_path: Path, out: Path) -> None:
    for split in ("train", "test"):
        parquet(tmp_path / "set" / f"{split}.parquet", [{"text": split}])
    record = source(tmp_path / "set", split="test").write(out, NOBODY)
    assert lines(out) == [{"text": "test"}]
    assert record.origin.endswith("(test)")


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"label": 1}], "holds no text: its columns are label"),
        ([{"text": None, "url": ""}], "no column of text among url"),
        ([{"text": None}, {"text": " "}], "no text in its column text"),
    ],
)
def test_a_data_set_without_text_is_refused(tmp_path: Path, out: Path, rows: list[Row], said: str) -> None:
    parquet(tmp_path / "set" / "train.parquet", rows)
    with pytest.raises(UserError, match=said):
        source(tmp_path / "set").write(out, NOBODY)


@pytest.mark.parametrize("name", ["", "a/b/c", "a b", "a/../../b", "a/b\x1b[2J", "a/b:", "hf:a/b"])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="is no data set's name") as refused:
        source(name)
    assert "\x1b" not in str(refused.value)


def test_a_damaged_file_at_the_beginning_is_told_by_name(tmp_path: Path, out: Path) -> None:
    parquet(tmp_path / "set" / "train.parquet", texts(5)).write_bytes(b"PAR1 and then nothing of use")
    with pytest.raises(SourceUnavailable, match=r"set cannot be read \("):
        source(tmp_path / "set").write(out, NOBODY)


def test_a_stream_that_breaks_off_says_how_far_it_came(tmp_path: Path, out: Path) -> None:
    parquet(tmp_path / "set" / "train-0.parquet", texts(600))
    whole = parquet(tmp_path / "set" / "train-1.parquet", texts(600)).read_bytes()
    (tmp_path / "set" / "train-1.parquet").write_bytes(whole[:-8] + b"\xff" * 8)
    with pytest.raises(JobFailed, match=r"broke off after [\d,]+ characters"):
        source(tmp_path / "set").write(out, NOBODY)


def test_a_full_disk_is_noticed_before_anything_is_read(
    stories: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("minigpt.text.hub_parts.free_disk", lambda path: 1_000_000_000)
    with pytest.raises(JobFailed, match=r"4\.6 GB are needed and 1\.0 GB are free"):
        source(stories, target_characters=4_000_000_000).write(out, NOBODY)


def test_a_disk_that_fills_while_writing_ends_it(stories: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = iter([10**12, 10**12, 0])
    monkeypatch.setattr("minigpt.text.hub_parts.free_disk", lambda path: next(free))
    monkeypatch.setattr("minigpt.text.hub_parts._CHECK_BYTES", 2_000)
    with pytest.raises(JobFailed, match="The disk is too full"):
        source(stories).write(out, NOBODY)


def test_the_next_source_is_taken_when_the_first_is_gone(stories: Path, out: Path, tmp_path: Path) -> None:
    listener = Listener()
    record = source(tmp_path / "gone", fallbacks=[source(tmp_path / "too"), source(stories)]).write(out, listener)
    assert lines(out) == texts(300)
    assert record.origin == f"hf:{stories}"
    assert record.notes[0].startswith(f"hf:{stories} was taken in place of hf:{tmp_path}/gone. There is no folder")
    assert len(listener.notices) == 2


def test_a_fallback_with_configs_takes_the_first_and_says_so(languages: Path, out: Path, tmp_path: Path) -> None:
    record = source(tmp_path / "gone", fallbacks=[source(languages)]).write(out, NOBODY)
    assert lines(out)[0] == {"text": "en 0"}
    assert "Of its configs, en was taken." in record.notes


def test_when_all_fail_every_reason_is_given(tmp_path: Path, out: Path, languages: Path) -> None:
    fallbacks = [source(tmp_path / "two"), source(languages, config="fr")]
    with pytest.raises(UserError, match=r"None of 3 sources.*one: .*two: .*no config 'fr'"):
        source(tmp_path / "one", fallbacks=fallbacks).write(out, NOBODY)


def test_a_wrong_choice_is_no_reason_to_read_something_else(languages: Path, stories: Path, out: Path) -> None:
    with pytest.raises(UserError, match="has no config 'fr'"):
        source(languages, config="fr", fallbacks=[source(stories)]).write(out, NOBODY)


def test_sources_of_other_kinds_fall_back_too(stories: Path, out: Path) -> None:
    class Gone:
        kind, origin = "list", "list:gone"

        def write(self, folder: Path, task: Task) -> SourceRecord:
            (folder / "begun.jsonl").write_text("{}")
            raise UserError("It is gone.")

    record = FirstOf([Gone(), source(stories)]).write(out, NOBODY)
    assert lines(out) == texts(300)
    assert "in place of list:gone. It is gone." in record.notes[0]


def test_a_missing_library_is_named(out: Path, stories: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match=r'pip install "minigpt-tui\[hub\]"'):
        source(stories).write(out, NOBODY)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int, dict[str, str]], None]]:
    """A server in place of huggingface.co that answers everything alike."""
    import datasets
    import huggingface_hub

    answer: list[Any] = [404, {}]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(answer[0])
            for name, value in answer[1].items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_HEAD = do_GET

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    for constants, name in ((huggingface_hub.constants, "ENDPOINT"), (datasets.config, "HF_ENDPOINT")):
        monkeypatch.setattr(constants, name, f"http://127.0.0.1:{server.server_port}")

    def set_answer(status: int, headers: dict[str, str]) -> None:
        answer[:] = [status, headers]

    yield set_answer
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        (401, "GatedRepo", "given only to those who accept its conditions"),
        (403, "GatedRepo", "given only to those who accept its conditions"),
        (403, "", "refused hf:some/thing"),
    ],
)
def test_a_refusal_tells_the_steps(hub: Callable[..., None], out: Path, status: int, code: str, said: str) -> None:
    hub(status, {"X-Error-Code": code} if code else {})
    with pytest.raises(CredentialsMissing, match=said) as refused:
        source("some/thing").write(out, NOBODY)
    for step in ("huggingface.co/settings/tokens", "hf auth login", "HF_TOKEN", "/datasets/some/thing"):
        assert step in str(refused.value)


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        (404, "RepoNotFound", "There is no data set some/thing"),
        (404, "RevisionNotFound", "check the revision"),
        (503, "", "it answered 503"),
    ],
)
def test_what_is_not_there_is_told(hub: Callable[..., None], out: Path, status: int, code: str, said: str) -> None:
    hub(status, {"X-Error-Code": code} if code else {})
    with pytest.raises(SourceUnavailable, match=said):
        source("some/thing").write(out, NOBODY)


def test_the_steps_stand_once_at_the_end_of_all_reasons(hub: Callable[..., None], out: Path) -> None:
    hub(401, {"X-Error-Code": "GatedRepo"})
    with pytest.raises(CredentialsMissing) as refused:
        source("a/b", fallbacks=[source("c/d")]).write(out, NOBODY)
    sentence, *steps = str(refused.value).splitlines()
    assert "hf:a/b" in sentence and "hf:c/d" in sentence
    assert [step[:2] for step in steps] == ["1.", "2.", "3.", "4."]


def test_no_network_is_told_at_once(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    waits: list[float] = []
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("time.sleep", waits.append)
    with pytest.raises(SourceUnavailable, match="cannot be reached"):
        source("some/thing").write(out, NOBODY)
    assert not waits, "it is not tried again and again"


@pytest.fixture
def script_only(monkeypatch: pytest.MonkeyPatch, stories: Path) -> Callable[[list[str] | None], None]:
    """Every data set is a script; the Hub's Parquet copy has these configs (None: there is no copy)."""
    import datasets
    import huggingface_hub

    load = datasets.load_dataset

    def load_dataset(path: str, **options: Any) -> Any:
        if options.get("revision") != "refs/convert/parquet":
            raise RuntimeError(f"Dataset scripts are no longer supported, but found {path}.py")
        return load(str(stories), streaming=True, cache_dir=options["cache_dir"])

    def set_copy(configs: list[str] | None) -> None:
        def tree(api: Any, name: str, **options: Any) -> list[Any]:
            if configs is None:
                response: Any = SimpleNamespace(headers={}, request=None, status_code=404)
                raise huggingface_hub.errors.RevisionNotFoundError("404", response=response)
            return [huggingface_hub.hf_api.RepoFolder(path=path, oid="0") for path in configs]

        monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_tree", tree)

    card = SimpleNamespace(sha="abc", card_data={"license": ["mit", "cc0-1.0"]})
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", lambda api, name, **options: card)
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return set_copy


def test_a_script_gives_way_to_the_copy_in_parquet(script_only: Callable[..., None], out: Path) -> None:
    script_only(["plain_text"])
    record = source("some/script").write(out, NOBODY)
    assert lines(out) == texts(300)
    assert "the Hub's own copy in Parquet" in record.notes[0]
    assert record.licence == "mit, cc0-1.0"


def test_a_copy_with_several_configs_asks_for_one(script_only: Callable[..., None], out: Path) -> None:
    script_only(["small", "large"])
    with pytest.raises(UserError, match="choose one of small, large with --config"):
        source("some/script").write(out, NOBODY)


@pytest.mark.parametrize(
    ("name", "way"), [("some/script", "--fallback hf:OWNER/NAME"), ("allenai/dolma", "the catalogue .* as dolma")]
)
def test_a_script_alone_is_refused_with_a_way_out(
    script_only: Callable[..., None], out: Path, name: str, way: str
) -> None:
    script_only(None)
    with pytest.raises(SourceUnavailable, match=f"comes only as a script.*{way}"):
        source(name).write(out, NOBODY)


def test_a_library_that_hangs_does_not_keep_the_work_from_ending() -> None:
    hung = threading.Event()

    def meanwhile() -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        Worker().call(hung.wait, meanwhile)
    hung.set()


def test_torch_is_not_loaded_for_it(stories: Path, out: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from minigpt.tasks import NOBODY;"
        "from minigpt.text.hub import HubSource;"
        f"HubSource({str(stories)!r}, target_characters=None).write(Path({str(out)!r}), NOBODY);"
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
