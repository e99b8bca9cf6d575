"""`minigpt eval`: measure how well a model predicts text."""

from __future__ import annotations

import argparse

from minigpt.cli.common import add_model_argument, find_model, open_model, workspace_of, write_json
from minigpt.cli.main import say
from minigpt.errors import UserError, printable
from minigpt.text.corpora import resolve
from minigpt.text.texts import find_corpora, gather


def add_eval_arguments(parser: argparse.ArgumentParser) -> None:
    add_model_argument(parser)
    parser.add_argument(
        "--corpus", metavar="NAME|PATH", help="the text (default: what it learned from, all of a mixture together)"
    )
    parser.add_argument("--split", default="validation", choices=["train", "validation", "test"])
    parser.add_argument(
        "--stride", type=int, metavar="N", help="overlap windows: predict only the last N tokens of each"
    )
    parser.add_argument("--max-tokens", type=int, metavar="N", help="stop after so many tokens")
    parser.add_argument("--device", default="auto", metavar="auto|cpu|cuda|mps", help="where to compute")
    parser.add_argument("--json", action="store_true", help="write JSON")


def run_eval(options: argparse.Namespace) -> int:
    for name in ("stride", "max_tokens"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise UserError(f"--{name.replace('_', '-')} {value} is not allowed: give a number of tokens, 1 or more.")
    path = find_model(options)
    from minigpt.inference.evaluate import evaluate

    model = open_model(path, options.device)
    config = model.config
    workspace = workspace_of(options)
    corpora = [resolve(workspace, options.corpus)] if options.corpus else find_corpora(workspace, config)
    for corpus in corpora:
        if corpus.note:
            say(corpus.note)
    # The text has to be cut as the model learned it.
    texts = gather(workspace, corpora, config, model.tokenizer.to_json())
    split = texts.split(options.split, options.max_tokens)
    if split.tokens < 2:
        raise UserError(
            f"The {options.split} split of {texts.name} is empty: choose another --split, or a larger "
            f"corpus.{options.split}_fraction when training."
        )
    lengths = model.tokenizer.token_byte_lengths()
    result = evaluate(model.network, split.shards, lengths, options.max_tokens, options.stride)
    row = {
        "model": str(path),
        "corpus": texts.name,
        "split": options.split,
        "tokens": result.tokens,
        "loss": result.loss,
        "loss_error": result.loss_error,
        "perplexity": result.perplexity,
        "bits_per_byte": result.bits_per_byte,
        "accuracy": result.accuracy,
        "accuracy_top5": result.accuracy_top5,
    }
    if options.json:
        write_json(row)
        return 0
    error = f", give or take {result.loss_error:.4f} (standard error)" if result.loss_error is not None else ""
    bits = "-" if result.bits_per_byte is None else f"{result.bits_per_byte:.4f}"
    print(f"""\
{printable(str(path))} on the {options.split} split of {printable(texts.name)}, {result.tokens:,} tokens
loss           {result.loss:.4f} nats a token (0 would be perfect){error}
perplexity     {result.perplexity:.2f} (as unsure as among so many equally likely tokens)
bits per byte  {bits} (comparable between tokenizers)
accuracy       {result.accuracy:.1%} right at first guess, {result.accuracy_top5:.1%} among the five likeliest""")
    return 0
