"""Conversations kept from one session to the next: `checkpoints/.app/conversations/<id>.json`, one file each."""

from __future__ import annotations

import re
import secrets
import time
from pathlib import Path
from typing import Any

import msgspec

from minigpt.errors import UserError, printable
from minigpt.text.documents import Message
from minigpt.workspace import Workspace
from tui.state import app_folder, write_whole

CONVERSATION, COMPLETION = "conversation", "completion"
MAX_LISTED = 500
MAX_BYTES = 32 << 20
_MAX_TITLE = 60
_MAX_SENT = 200
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,63}")


class Turn(msgspec.Struct):
    """What one of the two said: `role` is user, assistant, or completion (`prompt` and its continuation).

    `model` names who answered, `note` tells how the answer ended.
    """

    role: str
    content: str = ""
    prompt: str = ""
    model: str = ""
    note: str = ""


class Conversation(msgspec.Struct):
    """What is kept of a conversation; `updated` is in Unix seconds, `model` the path of a checkpoint."""

    id: str
    title: str = ""
    model: str = ""
    mode: str | None = None
    settings: dict[str, Any] = {}
    turns: list[Turn] = []
    updated: float = 0.0

    @classmethod
    def new(cls) -> Conversation:
        """Return an empty one with an id of its own."""
        return cls(f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}")

    def messages(self) -> list[Message]:
        """Return what a model is to answer: questions with their answers, and the last question."""
        found: list[Message] = []
        for turn in self.turns:
            if turn.role == "user":
                if _asks(found):
                    found.pop()  # it was never answered
                found.append(Message("user", turn.content))
            elif turn.role == "assistant" and turn.content and _asks(found):
                found.append(Message("assistant", turn.content))
        found = found[-_MAX_SENT:]
        return found if not found or found[0].role == "user" else found[1:]


def _asks(messages: list[Message]) -> bool:
    return bool(messages) and messages[-1].role == "user"


def title_of(text: str) -> str:
    """Return a conversation's name: its first words, in one line."""
    words = " ".join(text.split())
    return words if len(words) <= _MAX_TITLE else words[: _MAX_TITLE - 1].rsplit(" ", 1)[0] + "…"


def folder(workspace: Workspace) -> Path:
    return app_folder(workspace) / "conversations"


def list_conversations(workspace: Workspace) -> list[Conversation]:
    """Return the conversations that can be read, the latest first."""
    dated = sorted(((_modified(path), path) for path in folder(workspace).glob("*.json")), reverse=True)
    found = [load(workspace, path.stem) for _, path in dated[:MAX_LISTED]]
    return sorted((one for one in found if one is not None), key=lambda one: one.updated, reverse=True)


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def load(workspace: Workspace, name: str) -> Conversation | None:
    """Return a conversation by its id; None when it is missing, damaged or no conversation."""
    if not _ID.fullmatch(name):
        return None
    path = folder(workspace) / f"{name}.json"
    try:
        if path.stat().st_size > MAX_BYTES:
            return None
        found = msgspec.json.decode(path.read_bytes(), type=Conversation)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    found.id = name
    return found


def save(workspace: Workspace, name: str, content: bytes) -> None:
    """Write what `encode` gave, whole or not at all; raises UserError when it cannot be written."""
    try:
        write_whole(folder(workspace) / f"{name}.json", content)
    except OSError as error:
        where = printable(str(folder(workspace)))
        raise UserError(
            f"This conversation is not saved ({error.strerror}): make room or make {where} writable."
        ) from error


def encode(conversation: Conversation) -> bytes:
    """Return a conversation as it is kept, dated now."""
    conversation.updated = time.time()
    return msgspec.json.format(msgspec.json.encode(conversation))


def told(conversation: Conversation) -> bytes:
    """Return all of a conversation but its date and its model, to see whether it has changed."""
    return msgspec.json.encode((conversation.id, conversation.title, conversation.settings, conversation.turns))


def rename(workspace: Workspace, name: str, title: str) -> None:
    """Give a conversation another title; raises UserError when that cannot be kept."""
    found = load(workspace, name)
    if found is None:
        raise UserError("That conversation is gone, or its file is damaged: open another one.")
    found.title = title_of(title)
    save(workspace, name, msgspec.json.format(msgspec.json.encode(found)))


def delete(workspace: Workspace, name: str) -> None:
    """Remove a conversation, if it is there; raises UserError when that is not allowed."""
    if not _ID.fullmatch(name):
        return
    path = folder(workspace) / f"{name}.json"
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"Cannot delete {printable(str(path))}: {error.strerror}.") from error
