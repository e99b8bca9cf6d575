"""What `minigpt train` prints: how a run came out and what to do next, or what it would take."""

from __future__ import annotations

from typing import TYPE_CHECKING

from minigpt.cli.common import write_json
from minigpt.errors import printable
from minigpt.narration import duration, size
from minigpt.runs import RunSummary, summarise
from minigpt.training.turns import EXIT_INTERRUPTED

if TYPE_CHECKING:
    from minigpt.training.dryrun import Portion
    from minigpt.training.session import Session


def report_result(session: Session, exit_code: int, seconds: float) -> None:
    """Print how a run that took so many seconds ended, what its model says now, and what can be done next."""
    _outcome(summarise(session.directory), exit_code, seconds)
    _show_sample(session)
    _what_next(session.directory.name, exit_code)


def _outcome(summary: RunSummary, exit_code: int, seconds: float) -> None:
    if exit_code == EXIT_INTERRUPTED:
        print(f"\nInterrupted at step {summary.step:,} after {duration(seconds)}; everything is saved.")
        return
    if exit_code:
        print(f"\nThe run ended at step {summary.step:,}: {printable(str(summary.reason))}.")
        return
    print(f"\nDone in {duration(seconds)}: {summary.step:,} steps, {summary.tokens or 0:,} tokens.")
    losses = {event["split"]: event for event in summary.evaluations}
    validation, train = losses.get("validation"), losses.get("train")
    if not validation or not validation.get("loss"):
        return
    print(
        f"On text it has never seen, its loss is {validation['loss']:.3f}: it is as unsure of the next token as if it "
        f"had to pick one of {validation['perplexity']:.1f} equally likely ones. Its best guess is right "
        f"{validation['accuracy']:.0%} of the time."
    )
    if train and train.get("loss"):
        print(_verdict(validation["loss"] - train["loss"]))


def _verdict(gap: float) -> str:
    if gap <= 0:
        return "On text it has learned from the loss is no lower: it generalises, and could learn more."
    if gap < 0.2:
        return f"On text it has learned from the loss is {gap:.2f} lower: it generalises, it does not just recite."
    return (
        f"On text it has learned from the loss is {gap:.2f} lower: it has begun to learn the text by heart. "
        "More text, fewer epochs, a smaller model or some dropout would help."
    )


def _show_sample(session: Session) -> None:
    from minigpt.inference.generate import LoadedModel

    path = session.directory / "best_model.pt"
    if path.is_file():
        prompt = session.text.prompts[0]
        text = LoadedModel.open(path, session.device.kind).generate(prompt, seed=0, max_new_tokens=100)
        print(f"\nA sample:\n\n{printable(prompt + text)}")


def _what_next(run: str, exit_code: int) -> None:
    lines = {
        0: [
            f"minigpt chat {run}",
            f'minigpt generate {run} --prompt "Once upon a time"',
            f"minigpt eval {run}",
            f"minigpt train --resume {run} --epochs N",
        ],
        EXIT_INTERRUPTED: [f"minigpt train --resume {run}", f"minigpt chat {run}"],
    }.get(exit_code, [f"minigpt runs show {run}"])
    print("\nWhat next:\n" + "\n".join(f"  {line}" for line in lines))


def report_forecast(session: Session, as_json: bool = False) -> None:
    """Print what a run would take: sizes, memory, time."""
    from minigpt.training.dryrun import forecast

    figures = forecast(session)
    if as_json:
        write_json(figures)
        return
    plan = session.plan
    print(f"""\
Preset or file   {printable(session.preset or "-")}
Device           {printable(session.device.label)}, {session.device.threads} threads
Model            {figures.parameters:,} parameters ({session.config.model.family})
Text             {figures.train_tokens:,} tokens to learn from, {figures.validation_tokens:,} for validation\
{"".join(map(_portion, figures.mixture))}
Length           {plan.in_words()}
One step         {plan.windows_per_step} windows of {plan.tokens_per_window} tokens, {plan.micro_batch_size} at once
Data per weight  {figures.tokens_per_parameter:.2g} tokens a parameter (20 is plenty)
Time             about {duration(figures.seconds)} of training ({1000 * figures.seconds_per_step:,.0f} ms a step)
Memory           {size(figures.memory_measured)} measured, {size(figures.memory_estimate)} estimated,\
 {size(figures.memory_available)} free
Disk             up to {size(figures.disk_needed)} ({size(figures.checkpoint_bytes)} a checkpoint),\
 {size(figures.disk_free)} free
Cadence          evaluates every {plan.eval_every:,} steps, saves every {plan.save_every:,}""")


def _portion(portion: Portion) -> str:
    return f"\n                 {portion.share:.1%} from {printable(portion.corpus)}, {portion.epochs:.3g} epochs of it"
