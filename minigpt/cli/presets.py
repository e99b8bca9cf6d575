"""`minigpt presets list|show`."""

from __future__ import annotations

import argparse

from minigpt.cli.common import workspace_of, write_json
from minigpt.errors import UserError, printable
from minigpt.presets import load_preset, preset_paths, preset_summary, read_file, to_mapping


def add_presets_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="list|show", required=True)
    listing = actions.add_parser("list", help="every preset, in a line each")
    showing = actions.add_parser("show", help="one preset's file")
    showing.add_argument("name", metavar="PRESET")
    for action in (listing, showing):
        action.add_argument("--json", action="store_true", help="write JSON")


def run_presets(options: argparse.Namespace) -> int:
    paths = preset_paths(workspace_of(options))
    if options.action == "show":
        config = load_preset(options.name, workspace_of(options))
        if options.json:
            write_json(to_mapping(config))
        else:
            print(printable(paths[options.name].read_text(encoding="utf-8")), end="")
        return 0
    rows = []
    for name, path in paths.items():
        try:
            read_file(path)
            problem = ""
        except UserError as error:
            problem = str(error)
        rows.append({"preset": name, "summary": preset_summary(path), "path": str(path), "problem": problem})
    if options.json:
        write_json(rows)
        return 0
    width = max(map(len, paths))
    for row in rows:
        told = f"cannot be used: {row['problem']}" if row["problem"] else row["summary"]
        print(f"{printable(row['preset'], single_line=True):<{width}}  {printable(told, single_line=True)}")
    return 0
