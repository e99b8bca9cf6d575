"""How tokenizers and the tokens of a text look on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size
from rich.color import ColorSystem
from rich.style import Style

from minigpt.errors import printable
from minigpt.text.painting import Painted
from minigpt.text.tokenizer_facts import Facts, Figures

# Neighbours differ; what the tokenizer does not know stands out. Of 16 colours, so that every terminal has them.
COLOURS = (Style.parse("black on cyan"), Style.parse("black on yellow"))
UNKNOWN = (Style.parse("bold white on red"), Style.parse("bold white on magenta"))

KINDS = {
    "char": "every character is a token",
    "word": "every word is a token",
    "bpe": "byte-pair encoding: pieces of words, learned from text",
    "other": "of another make",
}
_NAME_CELLS = 24
_FEW = 5


@dataclass(frozen=True)
class Row:
    """One tokenizer of a comparison; `ratio` is of its characters a token to those of the first."""

    name: str
    facts: Facts
    figures: Figures
    ratio: float | None


def coloured(painted: Painted, unknown: int | None) -> str:
    """Return a text with its tokens on alternating colours; newlines are written as \\n as well as obeyed."""
    parts: list[str] = []
    for number, (token_id, text) in enumerate(painted.parts()):
        style = (UNKNOWN if token_id == unknown else COLOURS)[number % 2]
        *lines, rest = text.split("\n")
        shown = [printable(line, single_line=True) + r"\n" for line in lines] + [printable(rest, single_line=True)]
        parts.append("\n".join(style.render(part, color_system=ColorSystem.STANDARD) if part else "" for part in shown))
    return "".join(parts)


def print_facts(facts: Facts, figures: Figures) -> None:
    special = ", ".join(facts.special_tokens[:_FEW])
    others = facts.special_count - min(_FEW, len(facts.special_tokens))
    rows = {
        "kind": f"{facts.kind} ({KINDS[facts.kind]})" + (f", {facts.model}" if facts.kind == "other" else ""),
        "vocabulary": f"{facts.vocab_size:,} tokens",
        "special tokens": f"{special}{f' and {others} more' if others else ''}" if facts.special_count else "none",
        "measured on": f"{figures.characters:,} characters of {figures.measured_on}",
        "characters a token": _number(figures.characters_per_token),
        "bytes a token": _number(figures.bytes_per_token),
        "unknown tokens": f"{figures.unknown_rate:.2%}",
        "longest tokens": _quoted([token.text for token in facts.longest_tokens]),
        "most frequent": ", ".join(f"{_quoted([token.text])} {token.share:.1%}" for token in figures.most_frequent),
    }
    if facts.merges:
        rows["first merges"] = ", ".join(_quoted([left]) + " + " + _quoted([right]) for left, right in facts.merges)
    for name, value in rows.items():
        print(f"{name:<19} {printable(value)}")


def print_comparison(rows: Sequence[Row]) -> None:
    figures = rows[0].figures
    print(f"On {figures.characters:,} characters of {printable(figures.measured_on, single_line=True)}:\n")
    cells = min(_NAME_CELLS, max(cell_len(_name(row)) for row in rows))
    print(f"{'tokenizer':<{cells}}  kind   vocabulary     tokens  characters a token  bytes a token  unknown")
    for row in rows:
        ratio = f"{row.ratio:.2f} x" if row.ratio is not None else "-"
        print(
            f"{set_cell_size(_name(row), cells)}  {row.facts.kind:<5}  {row.facts.vocab_size:>10,} "
            f"{row.figures.tokens:>10,}  {_number(row.figures.characters_per_token):>9} {ratio:>8}  "
            f"{_number(row.figures.bytes_per_token):>13}  {row.figures.unknown_rate:>7.2%}"
        )
    print("\nlongest tokens")
    for row in rows:
        longest = _quoted([token.text for token in row.facts.longest_tokens[:_FEW]])
        print(f"{set_cell_size(_name(row), cells)}  {longest}")


def _name(row: Row) -> str:
    """A path's end says more than its beginning."""
    name = printable(row.name, single_line=True)
    return name if len(name) <= _NAME_CELLS else "…" + name[1 - _NAME_CELLS :]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _quoted(tokens: Sequence[str]) -> str:
    """Blanks at a token's ends are seen between quotes."""
    return " ".join(f'"{printable(token, single_line=True)}"' for token in tokens) or "-"
