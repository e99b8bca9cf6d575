"""The topics: there is one for all that has a name, each is whole, and its figures are those of the run."""

from __future__ import annotations

import ast
import json
import math
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import minigpt
from minigpt import learn
from minigpt.cli.main import main
from minigpt.config import Config, settings
from minigpt.errors import UserError
from minigpt.event_writer import EventWriter
from minigpt.events import EVENTS
from minigpt.history import RunHistory
from minigpt.learn.shelf import NO_FIGURES, TOPICS, parse
from minigpt.learn.values import PLACEHOLDERS, config_of, run_values
from minigpt.notices import NOTICES
from minigpt.presets import to_toml
from minigpt.workspace import Workspace

PACKAGE = Path(minigpt.__file__).parent
FEWEST_WORDS, MOST_WORDS = 40, 200


def every() -> list[learn.Topic]:
    return [found for kind in learn.contents().values() for found in kind]


def codes_in_the_code(calls: dict[str, int], *folders: str) -> set[str]:
    """Return the codes that calls in some files name; `calls` has the place of the code among the arguments."""
    found = set()
    for text in (path.read_text() for folder in folders for path in (PACKAGE / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(text)) if any(f"{name}(" in text for name in calls) else ():
            if not isinstance(node, ast.Call):
                continue
            place = calls.get(getattr(node.func, "attr", getattr(node.func, "id", "")))
            given = node.args[place] if place is not None and len(node.args) > place else None
            if isinstance(given, ast.Constant) and isinstance(given.value, str):
                found.add(given.value)
    return found


# There is one for everything


def test_every_setting_has_a_topic_and_no_other_name_has() -> None:
    assert {path.stem for path in (TOPICS / "settings").glob("*.md")} == set(settings())


def test_every_notice_and_every_warning_before_a_run_has_a_topic() -> None:
    planned = codes_in_the_code({"Warning": 0}, "planning")
    assert "does-not-fit" in planned
    assert {found.name for found in learn.of_kind("notices")} == set(NOTICES) | planned


def test_every_notice_in_the_code_has_a_topic() -> None:
    codes = codes_in_the_code({"notice": 1, "_notice": 1, "Finding": 0}, "training", "text")
    assert len(codes) > 10
    assert codes - set(NOTICES) == set()


def test_the_symptoms_that_people_have_lead_the_contents() -> None:
    index = learn.of_kind("symptoms")[0]
    assert index.name == "symptoms"
    wanted = {"flat", "nan", "writes-gibberish", "slow", "out-of-memory", "repeats-itself"}
    assert wanted <= {name for _, name in index.links}


# Each is whole


def test_no_two_topics_share_a_name() -> None:
    counts = Counter(found.name for found in every())
    assert [name for name, count in counts.items() if count > 1] == []


@pytest.mark.parametrize("kind", [kind for kind in learn.KINDS if kind != "settings"])
def test_other_names_lead_to_their_topic(kind: str) -> None:
    told = {word: found.name for found in learn.of_kind(kind) for word in found.also}
    assert {word: learn.topic(word).name for word in told} == told


@pytest.mark.parametrize("kind", learn.KINDS)
def test_topics_are_whole(kind: str) -> None:
    for found in learn.of_kind(kind):
        assert found.title, found.name
        assert found.sentence.endswith((".", "?")), found.name
        assert set(found.sections) <= set(learn.SECTIONS), found.name
        others = [text for name, text in found.sections.items() if name != "In your run"]
        assert "{" not in found.lead + "".join(others), found.name
        assert {"In your run", "Try", "Read on"} & found.sections.keys(), found.name


@pytest.mark.parametrize("kind", learn.KINDS)
def test_figures_are_those_that_there_are(kind: str) -> None:
    known = PLACEHOLDERS.keys() | settings().keys()
    assert {found.name: found.placeholders - known for found in learn.of_kind(kind) if found.placeholders - known} == {}


@pytest.mark.parametrize("kind", learn.KINDS)
def test_links_lead_to_other_topics(kind: str) -> None:
    for found in learn.of_kind(kind):
        names = [name for _, name in found.links]
        assert found.name not in names
        assert [name for name in names if learn.sentence(name) is None] == [], found.name


@pytest.mark.parametrize("kind", learn.KINDS)
def test_topics_say_enough_and_not_too_much(kind: str) -> None:
    for found in learn.of_kind(kind):
        words = " ".join([found.sentence, found.lead, *found.sections.values()]).split()
        assert FEWEST_WORDS <= len(words) <= MOST_WORDS, found.name


def test_a_setting_tells_what_the_configuration_knows() -> None:
    about = settings()["training.learning_rate"].about
    found = learn.topic("training.learning_rate")
    assert found.sentence == about.meaning
    assert about.too_high.capitalize()[:10] in found.sections["Too high"]
    text = found.markdown({"training.learning_rate": "0.003"})
    assert "default **0.01**" in text and "in your run **0.003**" in text and "`--lr`" in text


# Finding one


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("loss", "loss"),
        ("Learning-Rate", "training.learning_rate"),
        ("learning rate", "training.learning_rate"),
        ("lr", "lr"),
        ("ppl", "perplexity"),
        ("d_model", "model.d_model"),
        ("block size", "context-window"),
        ("OOM", "out-of-memory"),
        ("metrics/loss", "loss"),
        ("NaN", "nan"),
    ],
)
def test_a_topic_is_found_by_what_people_call_it(words: str, name: str) -> None:
    assert learn.topic(words).name == name


def test_an_unknown_topic_brings_the_nearest() -> None:
    with pytest.raises(UserError, match=r"There is no topic 'perplexty': did you mean perplexity"):
        learn.topic("perplexty")


def test_a_word_with_two_meanings_asks_which() -> None:
    with pytest.raises(UserError, match=r"'seed' may be training.seed or generation.seed"):
        learn.topic("seed")


@pytest.mark.parametrize("name", ["../shelf", "/etc/passwd", ".", "", "metrics/../metrics/loss", "x" * 500, "\x1b[31m"])
def test_no_name_leads_out_of_the_topics(name: str) -> None:
    assert learn.sentence(name) is None
    with pytest.raises(UserError) as problem:
        learn.topic(name)
    assert "\x1b" not in str(problem.value)


def test_a_search_brings_names_before_sentences() -> None:
    found = learn.find("gradient")
    assert found[0] == "gradient"
    assert found.index("exploding-gradients") < found.index("training.adam_beta1")
    assert learn.find("") == list(learn.names())


def test_a_topic_without_words_for_what_is_not_known_leaves_it_out() -> None:
    found = parse("# T\n\nS.\n\n## In your run\n\nIt is {loss}.\n\nAlways.\n\n## Try\n\nX.", "t", "metrics")
    assert "It is 1.5." in found.markdown({"loss": "1.5"})
    assert "It is" not in found.markdown() and "Always." in found.markdown()
    alone = parse("# T\n\nS.\n\n## In your run\n\nIt is {loss}.", "t", "metrics")
    assert NO_FIGURES in alone.markdown()


# In your run


def write_run(directory: Path, corpus: str = "tale", **start: object) -> None:
    directory.mkdir(parents=True)
    (directory / "config.toml").write_text(to_toml(Config()))
    writer = EventWriter(directory / EVENTS)
    told = {"parameters": 1000, "tokens": 5000, "vocab_size": 100, "planned_steps": 40, "planned_epochs": 2.0}
    writer.write("start", run=directory.name, corpus=corpus, device="cpu", planned_tokens=10_000, **(told | start))
    for step in range(1, 21):
        writer.write("step", step=step, epoch=step / 20, tokens=step * 250, loss=4 - step / 10, learning_rate=0.01)
    for split, loss in (("train", 2.0), ("validation", 2.5)):
        writer.write("eval", split=split, step=20, loss=loss, perplexity=math.exp(loss), best=True, tokens=100)
    writer.close()


def values_of(directory: Path) -> dict[str, str]:
    history = RunHistory(directory)
    while history.read():
        pass
    return run_values(history, config_of(directory))


def test_the_figures_are_those_of_the_run(tmp_path: Path) -> None:
    ladder = {"uniform": math.log(100), "unigram": 3.1, "bigram": 2.6}
    write_run(tmp_path / "one", ladder=ladder)
    values = values_of(tmp_path / "one")
    assert values.keys() <= PLACEHOLDERS.keys() | settings().keys()
    expected = {"step": "20", "planned_steps": "40", "loss": "2.000", "validation": "2.500", "gap": "0.500"}
    expected |= {"perplexity": "12.18", "tokens_per_parameter": "5", "text_per_parameter": "5", "uniform": "4.605"}
    expected |= {"bigram": "2.600", "lr": "0.01", "tokens_per_step": f"{16 * 256:,}", "training.seed": "42"}
    assert {name: values[name] for name in expected} == expected
    assert values["rung"].startswith("below the bigram")
    assert "mfu" not in values and "model.d_ff" not in values


@pytest.mark.parametrize(("unigram", "bigram", "words"), [(3.1, 2.2, "below the unigram"), (2.4, 2.2, "below blind")])
def test_the_rung_is_the_lowest_passed(tmp_path: Path, unigram: float, bigram: float, words: str) -> None:
    write_run(tmp_path / "one", ladder={"unigram": unigram, "bigram": bigram})
    assert values_of(tmp_path / "one")["rung"].startswith(words)


def test_hostile_and_broken_events_do_no_harm(tmp_path: Path) -> None:
    write_run(tmp_path / "one", corpus="[red](x)\x1b[31m`*<b>", ladder="much", vocab_size="many", parameters=0)
    (tmp_path / "one" / "config.toml").write_text("[model")
    values = values_of(tmp_path / "one")
    assert values["corpus"] == r"\[red\](x)\\x1b\[31m\`\*\<b\>"
    assert "rung" not in values and "tokens_per_parameter" not in values
    assert all(found.markdown(values) for found in every())


def test_without_a_run_every_topic_can_be_read() -> None:
    for found in every():
        assert not re.search(r"\{[a-z_.]+\}", found.markdown())


# The command


def test_without_a_topic_the_contents_are_listed(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["learn", "--workspace", str(workspace.root)]) == 0
    told = capsys.readouterr().out
    assert all(f"`{name}`" in told for name in learn.names())
    assert told.index("What is wrong?") < told.index("## Settings")


def test_in_a_pipe_a_topic_is_raw_markdown_with_the_newest_runs_figures(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(workspace.checkpoints / "one-1")
    assert main(["learn", "validation", "loss", "--workspace", str(workspace.root)]) == 0
    told = capsys.readouterr().out
    assert told.startswith("# Validation loss\n") and "It is 2.500 now." in told


def test_json_has_the_topic_its_links_and_the_figures(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(workspace.checkpoints / "one-1")
    assert main(["learn", "gap", "--json", "--run", "one-1", "--workspace", str(workspace.root)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["topic"], told["kind"], told["values"]["gap"]) == ("gap", "metrics", "0.500")
    assert "overfitting" in told["links"]


def test_an_unknown_topic_is_bad_input(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["learn", "temprature", "--workspace", str(workspace.root)]) == 2
    assert "generation.temperature" in capsys.readouterr().err


def test_on_a_terminal_it_is_set_in_type(
    workspace: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert main(["learn", "nan", "--workspace", str(workspace.root)]) == 0
    told = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    assert "# NaN" not in told and "NaN" in told and "(non-finite)" in told


def test_it_needs_no_torch() -> None:
    script = "import sys, minigpt.learn.values, minigpt.cli.learn; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0
