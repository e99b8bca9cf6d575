"""`minigpt`: everything the app does, for scripts, pipes and tests. One module a command."""

from __future__ import annotations

import argparse
import importlib
import io
import os
import re
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

from minigpt import __version__
from minigpt.errors import JobFailed, UserError, printable
from minigpt.presets import nearest
from minigpt.reserve import is_full

EXIT_FAILED, EXIT_BAD_INPUT, EXIT_KEYBOARD = 1, 2, 130

# Command -> (module, what it does). A module is imported only when its command is used.
COMMANDS = {
    "train": ("train", "train a model, or go on with one"),
    "chat": ("talk", "talk to a model"),
    "generate": ("talk", "have a model continue a text"),
    "predict": ("talk", "show the likeliest next tokens"),
    "eval": ("evaluate", "measure how well a model predicts text"),
    "runs": ("runs", "list, watch, compare, verify or tidy runs"),
    "control": ("runs", "pause, resume, stop or steer a run that is training"),
    "corpus": ("corpus", "list, show, make or prepare texts to learn from"),
    "tokenizer": ("tokenizer", "train, show or compare tokenizers"),
    "presets": ("presets", "choose, check, compare or make configurations"),
    "learn": ("learn", "read what a setting, a figure or a notice means"),
    "import": ("interop", "take in a model from a Hugging Face directory"),
    "export": ("interop", "write a model for other people's tools"),
    "bench": ("bench", "measure speed against a plain baseline"),
    "doctor": ("doctor", "check this machine, with a few steps of training"),
}


class Parser(argparse.ArgumentParser):
    """Tells mistakes in one sentence that names the nearest option there is."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # What is an abbreviation today may mean something else tomorrow.
        self.allow_abbrev = False

    def error(self, message: str) -> NoReturn:
        unknown = re.match(r"unrecognized arguments: (\S+)", message)
        hint = ""
        if unknown:
            known = list(_flags(self))
            hint = nearest(unknown[1].partition("=")[0], known)
            message = f"there is no option {unknown[1]!r} here"
        choice = re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", message)
        if choice:
            options = [option.strip(" '") for option in choice[2].split(",")]
            message = f"{choice[1]!r} is not one of {', '.join(options)}"
            hint = nearest(choice[1], options)
        raise UserError(f"{self.prog}: {message}.{hint} See `{self.prog} --help`.")


def _flags(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Yield the options of a parser and of the commands below it."""
    for action in parser._actions:
        yield from action.option_strings
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from _flags(below)


def build_parser(command: str | None) -> Parser:
    """Return the parser; only the module of `command` is imported, the others lend their one-line help."""
    parser = Parser(
        prog="minigpt",
        description="Train, steer, inspect and talk to a GPT of your own. Without options, `minigpt train` trains "
        "a small model on built-in text in a few minutes.",
    )
    parser.add_argument("--version", action="version", version=f"minigpt {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    for name, (module, summary) in COMMANDS.items():
        sub = subparsers.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
        if name == command:
            sub.add_argument(
                "--workspace", metavar="DIR", help="where data/ and checkpoints/ are (default: the current folder)"
            )
            implementation = importlib.import_module(f"minigpt.cli.{module}")
            getattr(implementation, f"add_{name}_arguments")(sub)
            sub.set_defaults(handler=getattr(implementation, f"run_{name}"))
    return parser


def normalised(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with --under_scores written as --hyphens; what follows a plain -- is left alone."""
    result: list[str] = []
    for index, argument in enumerate(arguments):
        if argument == "--":
            return [*result, *arguments[index:]]
        flag, equals, value = argument.partition("=")
        result.append(flag.replace("_", "-") + equals + value if flag.startswith("--") else argument)
    return result


def without_workspace(arguments: list[str]) -> tuple[list[str], str | None]:
    """Take --workspace DIR out of the arguments, wherever it stands: every command has it."""
    for index, argument in enumerate(arguments):
        if argument == "--":
            break
        if argument == "--workspace" and index + 1 < len(arguments):
            return arguments[:index] + arguments[index + 2 :], arguments[index + 1]
        if argument.startswith("--workspace="):
            return arguments[:index] + arguments[index + 1 :], argument.partition("=")[2]
    return arguments, None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code (0 done, 1 failed, 2 bad input, 3 interrupted with everything saved)."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A letter that the terminal has no code for must not end a run.
            stream.reconfigure(errors="backslashreplace")
    arguments = normalised(sys.argv[1:] if arguments is None else arguments)
    # The command may follow --workspace and the like.
    command = next((word for word in arguments if word in COMMANDS), None)
    try:
        arguments, workspace = without_workspace(arguments)
        options = build_parser(command).parse_args(arguments)
        options.workspace = workspace
        if options.command is None:
            build_parser(None).print_help()
            return 0
        code: int = options.handler(options)
        sys.stdout.flush()
        return code
    except UserError as error:
        say(str(error))
        return EXIT_BAD_INPUT
    except JobFailed as error:
        say(str(error))
        return EXIT_FAILED
    except KeyboardInterrupt:
        say("Stopped.")
        return EXIT_KEYBOARD
    except BrokenPipeError:
        # Whoever read our output has gone (`| head`); nothing is wrong, but Python would complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        where = f" {error.filename}" if error.filename else ""
        todo = " Make room on the disk and start again." if is_full(error) else ""
        say(f"The system refused{where}: {error.strerror or error}.{todo} Nothing that was saved before is lost.")
        return EXIT_FAILED
    except UnicodeError as error:
        say(f"That text is not UTF-8 ({error.reason if hasattr(error, 'reason') else error}): convert it first.")
        return EXIT_BAD_INPUT
    except MemoryError:
        return out_of_memory()
    except RuntimeError as error:
        # Torch's own kinds of running out of memory; importing torch to name them would cost a second.
        if type(error).__name__ == "OutOfMemoryError" or "allocate memory" in str(error):
            return out_of_memory()
        return report_bug(error)
    except Exception as error:  # noqa: BLE001 - the last line of defence: no traceback reaches a user's screen
        return report_bug(error)


def out_of_memory() -> int:
    """Say what happened and what helps."""
    say(
        "There is not enough memory for this: lower --micro-batch-size, --max-seq-len or the model's size, "
        "set --gradient-checkpointing, or use --device cpu."
    )
    return EXIT_FAILED


def report_bug(error: Exception) -> int:
    """Write the traceback to a file, and say where it is."""
    details = "".join(traceback.format_exception(error))
    try:
        with tempfile.NamedTemporaryFile("w", prefix="minigpt-error-", suffix=".txt", delete=False) as file:
            file.write(details)
        where = f"The details are in {file.name}; please report them."
    except OSError:  # no room for them either
        where = f"Please report it with these details:\n{details}"
    say(f"This is a mistake in MiniGPT, not yours: {type(error).__name__}: {error}. {where}")
    return EXIT_FAILED


def say(message: str) -> None:
    """Write a line of narration to stderr."""
    print(printable(message), file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
