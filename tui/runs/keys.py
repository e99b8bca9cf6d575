"""The keys of the Runs pane, and what its help says of them."""

from __future__ import annotations

from textual.binding import Binding

HELP = """\
A **run** is one training with all that belongs to it: settings, history, checkpoints.

| key | what it does |
|---|---|
| Enter, w | show it in the Train pane; one at work goes on whether you watch or not |
| Right, o | into its checkpoints: there c or Enter talks, r goes on, f forks, Left goes back |
| c | talk to its best checkpoint |
| r | go on with a run that was stopped or broke off; from an earlier checkpoint, in a new run |
| f | fork: a new run that begins with its weights, with settings of yours |
| Space, m | mark runs, compare those that are marked; u takes all marks away |
| s, S | sort by the next column; turn the order round |
| / | show only runs with these words in name, state, preset, corpus or note |
| n, e | write a note; give it another name |
| v | replay a part of it: does it come out bit for bit? |
| d | delete it with all its files, after asking |

Which checkpoints are kept is a setting: `training.keep_last` and `training.keep_every`; the best and the last stay.
"""
KEYS: tuple[Binding, ...] = (
    Binding("enter,w", "watch", "Watch", id="runs.watch", tooltip="Show this run in the Train pane"),
    Binding("enter", "talk", "Chat", show=False, id="runs.talk", tooltip="Talk to this checkpoint"),
    Binding("right,o", "enter_checkpoints", "Checkpoints", id="runs.checkpoints", tooltip="Into its checkpoints"),
    Binding("space", "mark", "Mark", id="runs.mark", tooltip="Mark this run, to compare it with others"),
    Binding("c", "chat", "Chat", id="runs.chat", tooltip="Talk to the run's best checkpoint, or to this one"),
    Binding("r", "resume", "Resume", show=False, id="runs.resume", tooltip="Go on with what was stopped or broke"),
    Binding("f", "fork", "Fork", show=False, id="runs.fork", tooltip="A new run that begins with these weights"),
    Binding("m", "compare", "Compare", show=False, id="runs.compare", tooltip="Compare the marked runs"),
    Binding("u", "unmark", "Unmark", show=False, id="runs.unmark", tooltip="Take all marks away"),
    Binding("s", "sort", "Sort", show=False, id="runs.sort", tooltip="Sort by the next column"),
    Binding("S", "turn_round", "Turn order", show=False, id="runs.turn", tooltip="Turn the order round"),
    Binding("slash", "filter", "Filter", show=False, id="runs.filter", tooltip="Show only runs with some words"),
    Binding("n", "annotate", "Note", show=False, id="runs.note", tooltip="Write a note to this run"),
    Binding("e", "rename", "Rename", show=False, id="runs.rename", tooltip="Give this run another name"),
    Binding("v", "verify", "Verify", show=False, id="runs.verify", tooltip="Replay a part: is it bit for bit?"),
    Binding("d", "delete", "Delete", show=False, id="runs.delete", tooltip="Delete the run, after asking"),
    Binding("left,escape", "back", "Back", id="runs.back", tooltip="Back to the runs, or to all of them"),
)
# What is done with a run, or with the list, and not with a checkpoint.
OF_RUNS = {"watch", "enter_checkpoints", "mark", "unmark", "compare", "sort", "turn_round", "filter"}
OF_RUNS |= {"annotate", "rename", "delete"}
