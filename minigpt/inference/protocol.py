"""The protocol in which another program talks to a model: JSON lines in, JSON lines out.

    minigpt chat [MODEL] --json [--device DEVICE]

Requests come on stdin, one object a line, and are answered in order. `id` is any number or text; every line that
answers a request carries it.

    {"id": 1, "do": "open", "path": "best_model.pt", "device": "auto", "threads": 1}
    {"id": 2, "do": "reply", "messages": [{"role": "user", "content": "Hi"}], "settings": {"temperature": 0.8}}
    {"id": 3, "do": "complete", "prompt": "Once upon", "settings": {}}
    {"id": 4, "do": "stop"}        stops every answer asked for before it; it has no answer of its own
    {"id": 5, "do": "quit"}

Answers go to stdout:

    {"id": 1, "event": "opened", "path", "step", "conversations", "separated", "device", "parameters", "context",
     "corpus", "settings"}
    {"id": 2, "event": "piece", "text"}        at most some twenty a second, however fast the model is
    {"id": 2, "event": "done", "tokens", "tokens_per_s", "finish_reason", "forgotten"}
    {"id": 2, "event": "error", "message"}     a sentence for people; the process goes on

`settings` are those of [generation]; what is left out is the model's own. `finish_reason` is length, end, stop (a stop
string) or stopped (by request); `forgotten` counts the oldest messages that no longer fit the context. `open` may be
asked again, for another checkpoint or a newer version of the same file. A MODEL on the command line is opened first, as
request 0. The process ends when stdin does, once all is answered or nobody listens; on Linux, with its parent.
"""

from __future__ import annotations

from typing import Any

import msgspec

from minigpt.text.documents import Message

MAX_LINE = 1 << 23
Id = int | str | None


class Open(msgspec.Struct, tag_field="do", tag="open"):
    """Load a checkpoint file. `threads` limits the CPU threads, where somebody else needs them."""

    path: str
    id: Id = None
    device: str = "auto"
    threads: int | None = None


class Reply(msgspec.Struct, tag_field="do", tag="reply"):
    """Answer a conversation; the last message is the user's."""

    messages: list[Message]
    id: Id = None
    settings: dict[str, Any] = {}


class Complete(msgspec.Struct, tag_field="do", tag="complete"):
    """Continue a text."""

    prompt: str
    id: Id = None
    settings: dict[str, Any] = {}


class Stop(msgspec.Struct, tag_field="do", tag="stop"):
    """Stop what was asked for before."""

    id: Id = None


class Quit(msgspec.Struct, tag_field="do", tag="quit"):
    """End the process."""

    id: Id = None


class Opened(msgspec.Struct, tag_field="event", tag="opened"):
    """A model is ready. `context` is in tokens; `settings` are the generation settings it was trained with."""

    id: Id
    path: str
    step: int
    conversations: bool
    separated: bool
    device: str
    parameters: int
    context: int
    corpus: str
    settings: dict[str, Any]


class Piece(msgspec.Struct, tag_field="event", tag="piece"):
    """Some more of the answer."""

    id: Id
    text: str


class Done(msgspec.Struct, tag_field="event", tag="done"):
    """The answer is whole."""

    id: Id
    tokens: int
    tokens_per_s: float
    finish_reason: str
    forgotten: int = 0


class Failed(msgspec.Struct, tag_field="event", tag="error"):
    """What was asked cannot be done, in a sentence."""

    id: Id
    message: str


Request = Open | Reply | Complete | Stop | Quit
Event = Opened | Piece | Done | Failed
