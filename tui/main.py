"""`minigpt-tui`: what the command line says, and what to do where there is no screen."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from minigpt import __version__
from minigpt.errors import UserError, printable
from minigpt.workspace import Workspace


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the app; return the exit code (0 done, 1 failed, 2 bad input)."""
    options = build_parser().parse_args(arguments)
    workspace = Workspace.find(options.workspace)
    try:
        if options.plain:
            from tui.plain import run_plain

            return run_plain(workspace, options.run, options.train)
        return _run_app(workspace, options.run, options.train)
    except UserError as error:
        print(printable(str(error)), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 0


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="minigpt-tui",
        description="Train, steer, inspect and talk to a GPT of your own. Everything it does, `minigpt` does too.",
    )
    parser.add_argument("--run", metavar="NAME", help="watch this run")
    parser.add_argument("--train", metavar="PRESET", help="start training this preset at once")
    parser.add_argument("--plain", action="store_true", help="lines of text, for a screen reader or a log")
    parser.add_argument("--workspace", metavar="DIR", help="where data/ and checkpoints/ are (default: current folder)")
    parser.add_argument("--version", action="version", version=f"minigpt-tui {__version__}")
    return parser


def _run_app(workspace: Workspace, run: str | None, train: str | None) -> int:
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UserError(
            "minigpt-tui needs a terminal for its screen: use `minigpt train` without one, or `minigpt-tui --plain`."
        )
    if os.environ.get("TERM", "") in ("", "dumb"):
        raise UserError("This terminal cannot show a screen (TERM is unset or dumb): use `minigpt-tui --plain`.")
    from tui.app import MiniGPTApp
    from tui.state import load_settings

    app = MiniGPTApp(workspace, load_settings(), run=run, train=train)
    app.run()
    if app.failure:
        print(printable(app.failure), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
