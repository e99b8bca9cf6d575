"""What a document is."""

from __future__ import annotations

import msgspec

ROLES = ("user", "assistant")


class Message(msgspec.Struct, frozen=True):
    """One turn of a conversation; `role` is "user" or "assistant"."""

    role: str
    content: str


class Document(msgspec.Struct, frozen=True):
    """One document: a plain text or a conversation (one of the two is set)."""

    text: str = ""
    messages: tuple[Message, ...] = ()

    def texts(self) -> list[str]:
        """Return the text, or what each message says, without any join."""
        return [message.content for message in self.messages] if self.messages else [self.text]
