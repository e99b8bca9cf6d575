"""Conversations in the shapes that people store them in, and pairs of a question and its answer.

[{"role": "user", "content": ...}, ...]     OpenAI's, with other names for roles and keys
[{"from": "human", "value": ...}, ...]      ShareGPT's
instruction+input+output                     columns of a row: the last answers the others
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from minigpt.errors import printable
from minigpt.text.formats.document import ROLES, Message

_ROLES = {
    **dict.fromkeys(("user", "human", "prompter", "customer"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "bot", "chatbot", "model", "ai"), "assistant"),
    **dict.fromkeys(("system", "developer"), "system"),
}
_ROLE_KEYS = ("role", "from", "speaker")
_CONTENT_KEYS = ("content", "value", "text")
_SHOWN_CHARACTERS = 30


class Unusable(ValueError):
    """Why a row gives no document, in a few words."""


@dataclass(frozen=True)
class Chat:
    """One conversation. `folded` and `dropped` count its system messages."""

    messages: tuple[Message, ...]
    folded: int
    dropped: int


def is_chat(value: Any) -> bool:
    """Whether this is a list of turns, each with somebody and what they said."""
    turns = _turns(value)
    return bool(turns) and all(
        isinstance(turn, dict) and any(key in turn for key in _ROLE_KEYS) and any(key in turn for key in _CONTENT_KEYS)
        for turn in turns
    )


def is_plain_chat(value: Any) -> bool:
    """Whether these are messages already, and nothing in them is to be changed."""
    return (
        isinstance(value, tuple)
        and bool(value)
        and all(message.role in ROLES and "\r" not in message.content for message in value)
    )


def chat_of(value: Any) -> Chat:
    """Return the conversation in a row's column; raises Unusable when there is none or somebody unknown speaks.

    A system message is put in front of the next thing the user says, for a chat here has two sides.
    """
    if is_plain_chat(value):
        return Chat(value, 0, 0)
    if not is_chat(value):
        raise Unusable(f"{kind_of(value)} in place of messages")
    messages: list[Message] = []
    waiting: list[str] = []
    folded = 0
    for turn in _turns(value):
        role, content = _role(turn), _content(turn)
        if role == "system":
            waiting += [content] if content.strip() else []
            continue
        if role == "user" and waiting:
            folded += len(waiting)
            content = "\n\n".join([*waiting, content])
            waiting = []
        messages.append(Message(role, content))
    return Chat(tuple(messages), folded, len(waiting))


def pair_of(row: Mapping[str, Any], columns: Sequence[str]) -> tuple[Message, ...]:
    """Return question and answer of a row, the answer being its last column; raises Unusable without them."""
    *asked, answer = (_text_in(row, column) for column in columns)
    question = "\n\n".join(text for text in asked if text.strip())
    if not question or not answer.strip():
        raise Unusable(f"nothing in {columns[-1] if question else columns[0]}")
    return Message("user", question), Message("assistant", answer)


def kind_of(value: Any) -> str:
    """Return in words what a value of JSON is."""
    names = {bool: "a yes or no", int: "a number", float: "a number", list: "a list", dict: "a record", str: "text"}
    return "nothing" if value is None else names.get(type(value), "something else")


def with_newlines(text: str) -> str:
    return text.replace("\r\n", "\n") if "\r" in text else text


def _turns(value: Any) -> list[Any]:
    """Return the turns of a chat; tables hold them as JSON, and some as one list for each key."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = msgspec.json.decode(value)
        except (msgspec.DecodeError, RecursionError):
            return []
    if isinstance(value, dict) and value and all(isinstance(items, list) for items in value.values()):
        return [dict(zip(value, items, strict=False)) for items in zip(*value.values(), strict=False)]
    return value if isinstance(value, list) else []


def _role(turn: dict[str, Any]) -> str:
    said = next(turn[key] for key in _ROLE_KEYS if key in turn)
    role = _ROLES.get(said.strip().lower()) if isinstance(said, str) else None
    if role is None:
        raise Unusable(f"unknown role {printable(repr(said)[:_SHOWN_CHARACTERS])}")
    return role


def _content(turn: dict[str, Any]) -> str:
    content = next(turn[key] for key in _CONTENT_KEYS if key in turn)
    if isinstance(content, list):  # several parts, such as pictures
        pieces = [piece.get("text") if isinstance(piece, dict) else piece for piece in content]
        texts = [piece for piece in pieces if isinstance(piece, str)]
        if len(texts) < len(pieces):
            raise Unusable("a message that is more than text")
        content = "\n".join(texts)
    if content is None:
        raise Unusable("a message that says nothing")
    if not isinstance(content, str):
        raise Unusable(f"{kind_of(content)} in place of what is said")
    return with_newlines(content)


def _text_in(row: Mapping[str, Any], column: str) -> str:
    if column not in row:
        raise Unusable(f'no field "{printable(column, single_line=True)}"')
    value = row[column]
    if value is not None and not isinstance(value, str):
        raise Unusable(f"{kind_of(value)} in place of text in {printable(column, single_line=True)}")
    return with_newlines(value or "")
