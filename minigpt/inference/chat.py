"""Conversations that keep to the model's context, with models that know conversations and with those that do not.

chat = Chat(model)
for piece in chat.say("Where does Tom live?"):
    print(piece, end="")
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec

from minigpt.config import GenerationSettings
from minigpt.inference.generate import LoadedModel
from minigpt.text.documents import Message


@dataclass
class Chat:
    """A conversation with a model; a model trained on plain text continues what is typed instead of answering."""

    model: LoadedModel
    settings: GenerationSettings | None = None
    messages: list[Message] = field(default_factory=list)
    forgotten: int = 0  # how many of the oldest messages no longer fit the context

    @property
    def answers(self) -> bool:
        """Whether the model answers (it learned from conversations) or continues the text."""
        return self.model.conversations and self.model.tokenizer.assistant is not None

    def say(self, text: str) -> Iterator[str]:
        """Add a message and yield the reply piece by piece; what was yielded is kept, also when stopped half-way."""
        self.messages.append(Message("user", text))
        settings = self.settings or self.model.config.generation
        ids, room = self._prompt(settings)
        settings = msgspec.structs.replace(settings, max_new_tokens=min(settings.max_new_tokens, room))
        try:
            yield from self.model.stream_tokens(ids, text, settings)
        finally:
            self.messages.append(Message("assistant", self.model.last.text))

    def _prompt(self, settings: GenerationSettings) -> tuple[list[int], int]:
        """Return the token ids to go on from, and how many more fit: the oldest messages give way first."""
        context = self.model.network.config.max_seq_len
        room = min(settings.max_new_tokens, context // 2)
        for first in range(0, len(self.messages), 2):
            ids = self._encode(self.messages[first:])
            if len(ids) + room <= context:
                self.forgotten = first
                return ids, context - len(ids)
        self.forgotten = len(self.messages) - 1
        return ids[-(context - room) :], room

    def _encode(self, messages: list[Message]) -> list[int]:
        if self.answers:
            return self.model.tokenizer.encode_chat(messages, reply=True)
        return self.model.encode_prompt("".join(message.content for message in messages))
