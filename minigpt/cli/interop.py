"""`minigpt import` and `minigpt export`."""

from __future__ import annotations

import argparse
from pathlib import Path

from minigpt.cli.common import add_model_argument, find_model, workspace_of
from minigpt.cli.main import say
from minigpt.errors import UserError, printable
from minigpt.presets import to_toml
from minigpt.runs import BEST, CONFIG


def add_import_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", type=Path, metavar="DIR", help="config.json, model.safetensors, tokenizer.json")
    parser.add_argument("name", metavar="NAME", help="what to call the model here")


def run_import(options: argparse.Namespace) -> int:
    workspace = workspace_of(options)
    target = workspace.run_directory(options.name)
    if target.exists():
        raise UserError(f"There is a run {options.name!r} already: choose another name.")
    from minigpt.interop.huggingface import import_directory
    from minigpt.model.checkpoint import save
    from minigpt.text.storage import atomic_directory, write_file

    checkpoint = import_directory(options.directory)
    workspace.require_writable()
    with atomic_directory(target) as building:
        write_file(building / CONFIG, to_toml(checkpoint.config).encode())
        write_file(building / "tokenizer.json", checkpoint.tokenizer.encode())
        save(building / BEST, checkpoint)
    parameters = sum(tensor.numel() for tensor in checkpoint.weights.values())
    say(f"Imported {parameters:,} weights as {options.name}: try `minigpt generate {options.name} --prompt ...`.")
    return 0


def add_export_arguments(parser: argparse.ArgumentParser) -> None:
    add_model_argument(parser)
    parser.add_argument("--format", required=True, choices=["hf"], help="hf: a Hugging Face directory")
    parser.add_argument("--output", type=Path, metavar="DIR", help="where to (default: exports/RUN-hf)")


def run_export(options: argparse.Namespace) -> int:
    path = find_model(options)
    from minigpt.interop.huggingface import export_directory
    from minigpt.model.checkpoint import load

    checkpoint = load(path)
    output = options.output or Path("exports") / f"{path.absolute().parent.name}-hf"
    export_directory(checkpoint, output)
    print(printable(str(output)))
    say(f"Exported. In Python: transformers.AutoModelForCausalLM.from_pretrained({str(output)!r})")
    return 0
