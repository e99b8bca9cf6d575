"""One corpus in words: what it is, what is being done to it, what its figures mean, and how it begins."""

from __future__ import annotations

from textual.content import Content

from minigpt.errors import printable
from minigpt.narration import size
from tui.corpora.statistics import Survey, advice_lines
from tui.corpora.tasks import Work
from tui.figures import short
from tui.panes.corpus_facts import SAMPLE, CorpusFacts, Glance
from tui.widgets.browser import details
from tui.widgets.listing import MARK, MUTED, Cell, Row

BAR = 24
_NOTES = 6


def corpus_row(facts: CorpusFacts, work: Work | None, chosen: bool) -> Row:
    """Return the line of a corpus in the list."""
    name = Cell(facts.name, "bold")
    state = Cell(facts.kind)
    if work is not None:
        state = Cell(f"{_line(work.fraction, 10)}{work.doing}", "$text-warning")
    elif facts.problem:
        state = Cell("✗ cannot be used", "$text-error")
    elif facts.manifest is None:
        state = Cell("built in, made on first use", MUTED)
    if facts.manifest is None:
        about = Cell(f"about {size(facts.bytes)}" if facts.bytes else "-", MUTED)
        return Row(facts.name, (name, about, Cell("-", MUTED), Cell("-", MUTED), state), chosen)
    tokens = Cell(short(facts.tokens)) if facts.tokens is not None else Cell("-", MUTED)
    counts = (Cell(size(facts.bytes)), Cell(f"{facts.manifest.documents:,}"), tokens)
    return Row(facts.name, (name, *counts, state), chosen)


def _line(fraction: float | None, width: int) -> str:
    if fraction is None:
        return ""
    filled = round(fraction * width)
    return "━" * filled + "─" * (width - filled) + " "


def facts_of(
    facts: CorpusFacts, glance: Glance, work: Work | None, survey: Survey | str | None, chosen: bool
) -> tuple[Content, Content]:
    """Return what is known of a corpus, and how it begins. `survey` may be in words why there is none."""
    remark = f"{MARK} chosen for the next run" if chosen else ""
    progress = [_progress(work)] if work is not None else []
    begins = Content.styled("It begins:", MUTED) + Content(f"\n{glance.preview}") if glance.preview else Content("")
    if facts.manifest is None:
        about = Content("Built in: stories and conversations about a village. It is made when it is first used.")
        if work is not None and facts.name != SAMPLE:
            about = Content(
                "It is being made. Nothing of it can be used before it is whole; training goes on meanwhile."
            )
        elif facts.problem:
            about = Content.styled(f"✗ {printable(facts.problem)}", "$text-error")
        return details(facts.name, [], *progress, about, remark=remark), begins
    manifest = facts.manifest
    documents, talks = manifest.documents, manifest.conversations
    counted = f"{documents:,} documents, " if documents != 1 else ""
    counted += f"{talks:,} of them conversations, " if 0 < talks < documents else ""
    pairs = [("text", f"{facts.kind}: {counted}{manifest.characters:,} characters ({size(manifest.bytes)})")]
    pairs += [("from", f"{source.kind}: {source.origin}") for source in manifest.sources]
    pairs += [("licence", source.licence) for source in manifest.sources if source.licence]
    pairs.append(("added", manifest.created[:10]))
    pairs += [("tokens", told) for told in glance.shards or ["not made yet: p makes them, or the first training"]]
    notes = [*(note for source in manifest.sources for note in source.notes), *manifest.notes]
    told = [Content("\n").join(Content(f"· {printable(note)}") for note in notes[:_NOTES])] if notes else []
    if isinstance(survey, str):
        told.append(Content.styled(printable(survey), MUTED))
    elif survey is not None and survey.advice:
        told.append(Content("\n").join(advice_lines(survey.advice)))
    return details(facts.name, pairs, *progress, *told, remark=remark), begins


def _progress(work: Work) -> Content:
    """Say in two or three lines how far a task is."""
    state = work.state
    doing = {"add": "Adding", "prepare": "Making tokens"}.get(work.action, work.action)
    head = f"{doing}: {printable(state.phase, single_line=True) or 'starting'}"
    percent = f"{work.fraction:.0%}  " if work.fraction is not None else ""
    line = f"{_line(work.fraction, BAR)}{percent}{work.amounts}"
    lines = [Content.styled(head, "bold $text-warning"), Content(line), Content.styled("The key x stops it.", MUTED)]
    lines += [Content(f"! {printable(notice)}") for notice in state.notices[-2:]]
    return Content("\n").join(line for line in lines if line.plain)
