"""`minigpt chat`, `minigpt generate`, `minigpt predict`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from minigpt.cli.common import add_model_argument, add_setting_flags, find_model, given_settings, open_model, write_json
from minigpt.cli.main import say
from minigpt.config import Config, GenerationSettings
from minigpt.errors import UserError, one_line, printable, safe_json
from minigpt.presets import with_values

CHAT_HELP = "Empty line or /quit ends the chat; /new starts another; Ctrl-C stops an answer."


def add_generate_arguments(parser: argparse.ArgumentParser) -> None:
    add_model_argument(parser)
    _add_prompt(parser, "what to go on from (default: an empty text; - reads stdin)")
    parser.add_argument("--num-samples", type=int, default=1, metavar="N", help="how many continuations")
    parser.add_argument("--json", action="store_true", help="write one JSON object a sample")
    parser.add_argument("--output", metavar="FILE", help="write to a file, characters as they are, instead of stdout")
    parser.add_argument("--seed", dest="setting:generation.seed", metavar="N", help="same seed, same text")
    _add_common(parser)


def add_predict_arguments(parser: argparse.ArgumentParser) -> None:
    add_model_argument(parser)
    _add_prompt(parser, "the text before the token to predict (- reads stdin)")
    parser.add_argument("--top", type=int, default=10, metavar="N", help="how many tokens to show")
    parser.add_argument("--json", action="store_true", help="write JSON")
    _add_device(parser)


def add_chat_arguments(parser: argparse.ArgumentParser) -> None:
    add_model_argument(parser)
    parser.add_argument("--seed", dest="setting:generation.seed", metavar="N", help="same seed, same answers")
    parser.add_argument(
        "--json",
        action="store_true",
        help="speak JSON lines on stdin and stdout, as minigpt.inference.protocol documents",
    )
    _add_common(parser)


def _add_prompt(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument("--prompt", "-p", default="", metavar="TEXT", help=text)


def _add_common(parser: argparse.ArgumentParser) -> None:
    add_setting_flags(parser, ["generation"])
    _add_device(parser)


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="auto", metavar="auto|cpu|cuda|mps", help="where to compute")


def _open(options: argparse.Namespace) -> Any:
    path = find_model(options)
    return open_model(path, options.device)


def _settings(options: argparse.Namespace, config: Config) -> GenerationSettings:
    return with_values(config, given_settings(options), "command line", from_text=True).generation


def _prompt(options: argparse.Namespace) -> str:
    if options.prompt == "-":
        return sys.stdin.buffer.read().decode("utf-8")
    # Bytes of the command line that are no UTF-8 arrive as lone surrogates.
    return str(options.prompt).encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def run_generate(options: argparse.Namespace) -> int:
    if options.num_samples < 1:
        raise UserError(f"--num-samples {options.num_samples} is not allowed: ask for 1 or more.")
    model = _open(options)
    settings = _settings(options, model.config)
    prompt = _prompt(options)
    live = not options.json and not options.output
    samples = []
    for index in range(options.num_samples):
        if settings.seed is not None and index:
            settings = msgspec.structs.replace(settings, seed=settings.seed + 1)
        if live:
            if index:
                print("\n---")
            sys.stdout.write(printable(prompt))
        _stream(model.stream_tokens(model.encode_prompt(prompt), prompt, settings), live)
        samples.append(model.last)
        if live:
            print(flush=True)
            say(f"[{model.last.tokens} tokens, {model.last.tokens_per_s:,.0f} tokens/s, {model.last.finish_reason}]")
    if options.json:
        lines = "".join(msgspec.json.encode(sample).decode() + "\n" for sample in samples)
        _write(lines, options.output)
    elif options.output:
        _write("\n---\n".join(prompt + sample.text for sample in samples) + "\n", options.output)
    return 0


def _write(text: str, path: str | None) -> None:
    if path is None:
        sys.stdout.write(safe_json(text))
        return
    try:
        Path(path).expanduser().write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"Cannot write {one_line(path)}: {error.strerror}.") from error


def _stream(pieces: Iterator[str], live: bool) -> None:
    for piece in pieces:
        if live:
            sys.stdout.write(printable(piece))
            sys.stdout.flush()


def run_predict(options: argparse.Namespace) -> int:
    if options.top < 1:
        raise UserError(f"--top {options.top} is not allowed: ask for 1 or more.")
    model = _open(options)
    rows = [
        {"token": model.tokenizer.token_text(token), "id": token, "probability": probability}
        for token, probability in model.predict(_prompt(options), options.top)
    ]
    if options.json:
        write_json(rows)
        return 0
    for row in rows:
        bar = "#" * round(40 * row["probability"])
        print(f"{row['probability']:7.2%}  {printable(repr(row['token']), single_line=True):<20} {bar}")
    return 0


def run_chat(options: argparse.Namespace) -> int:
    if options.json:
        return _serve(options)
    from minigpt.inference.chat import Chat

    model = _open(options)
    chat = Chat(model, _settings(options, model.config))
    if chat.answers:
        say(f"Ask away. {CHAT_HELP}")
    else:
        say(f"This model learned from plain text: it goes on with what you write. {CHAT_HELP}")
    interactive = sys.stdin.isatty()
    while True:
        try:
            text = input("you> " if interactive else "")
        except (EOFError, KeyboardInterrupt):
            say("")
            return 0
        if text.strip() in ("", "/quit", "/exit"):
            if interactive or text.strip():
                return 0
            continue
        if text.strip() == "/new":
            chat.messages.clear()
            continue
        _answer(chat, text, interactive)


def _serve(options: argparse.Namespace) -> int:
    from minigpt.inference.serve import serve

    named = options.model_flag or options.model
    return serve(str(find_model(options)) if named else None, options.device, given_settings(options))


def _answer(chat: Any, text: str, interactive: bool) -> None:
    pieces = chat.say(text)
    try:
        if interactive:
            sys.stdout.write("gpt> ")
        _stream(pieces, live=True)
    except KeyboardInterrupt:
        pieces.close()
    print(flush=True)
    if chat.forgotten:
        say(f"[the oldest {chat.forgotten} messages no longer fit the context]")
