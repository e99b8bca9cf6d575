from __future__ import annotations

from minigpt.config import GenerationSettings
from minigpt.inference.chat import Chat
from tests.inference.test_generate import loaded


def test_a_model_that_knows_conversations_gets_the_template() -> None:
    model = loaded(context=64)
    model.conversations = True
    chat = Chat(model, GenerationSettings(max_new_tokens=5, seed=1))
    answer = "".join(chat.say("the cat"))
    assert [message.role for message in chat.messages] == ["user", "assistant"]
    assert chat.messages[1].content == answer == model.last.text
    ids, _ = chat._prompt(GenerationSettings(max_new_tokens=5))
    assert ids.count(model.tokenizer.assistant) == 2
    assert ids[0] == model.tokenizer.user


def test_a_model_of_plain_text_goes_on_with_it() -> None:
    model = loaded(context=64)
    chat = Chat(model, GenerationSettings(max_new_tokens=5, seed=1))
    "".join(chat.say("the cat"))
    ids, _ = chat._prompt(GenerationSettings(max_new_tokens=5))
    assert not {model.tokenizer.user, model.tokenizer.assistant} & set(ids)


def test_a_long_conversation_keeps_to_the_context() -> None:
    model = loaded(context=32)
    model.conversations = True
    settings = GenerationSettings(max_new_tokens=8, seed=1)
    chat = Chat(model, settings)
    for turn in range(6):
        "".join(chat.say(f"the dog sees {'the cat ' * (turn % 3)}"))
        ids, room = chat._prompt(settings)
        assert len(ids) + min(room, settings.max_new_tokens) <= 32
    assert chat.forgotten > 0


def test_what_was_said_before_a_stop_is_kept() -> None:
    model = loaded(context=64)
    chat = Chat(model, GenerationSettings(seed=1, top_k=3))
    pieces = chat.say("the cat")
    first = next(pieces)
    pieces.close()
    assert chat.messages[-1].role == "assistant"
    assert chat.messages[-1].content.startswith(first)
