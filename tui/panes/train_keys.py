"""The keys of the Train pane, and what its help says of them."""

from __future__ import annotations

from textual.binding import Binding

HELP = """\
**Train** shows one run: the curves of loss and perplexity, its figures, what the model says by now, and a log.

The trainer is a process of its own. Quit, close the window, lose the link: it goes on, and this pane finds it again.

| key | what it does |
|---|---|
| s | start training the chosen preset on the chosen corpus |
| space | pause, and go on |
| x | stop after this step and save everything; r goes on from there later |
| k | write a checkpoint now |
| e, g | evaluate now; have the model say something now |
| - + | lower or raise the learning rate |
| a | do what the latest notice advises, where that is an action |
| o | other runs, their loss drawn dim behind this one's |
| c | the next chart: perplexity, learning rate, gradient norm, tokens/s, memory |
| l, t, z, m | logarithmic axis; steps, tokens or time; zoom to the end; smoothing |
| left, right | with a chart in focus: read its values |
| v | at small sizes: log, sample, evaluations or device below |
| f | filter the log |
| y | copy what has the focus (works over SSH where the terminal allows it) |
| n | back to the choice of preset and corpus |
"""
KEYS: tuple[Binding, ...] = (
    Binding("s", "start", "Start", id="train.start", tooltip="Train the chosen preset on the chosen corpus"),
    Binding("space", "pause", "Pause", key_display="spc", id="train.pause", tooltip="Pause, and go on"),
    Binding("x", "stop", "Stop", id="train.stop", tooltip="Stop after this step, and save everything"),
    Binding("r", "resume", "Resume", id="train.resume", tooltip="Go on with this run where it stopped"),
    Binding("a", "cure", "Cure", id="train.cure", tooltip="Do what the latest notice advises"),
    Binding("c", "chart", "Chart", id="train.chart", tooltip="Show the next chart"),
    Binding("k", "send('checkpoint')", "Save", show=False, id="train.checkpoint", tooltip="Write a checkpoint now"),
    Binding("e", "send('evaluate')", "Evaluate", show=False, id="train.evaluate", tooltip="Evaluate now"),
    Binding("g", "send('sample')", "Sample", show=False, id="train.sample", tooltip="Have the model write now"),
    Binding("minus", "scale(-1)", "Slower", show=False, id="train.slower", tooltip="Lower the rate"),
    Binding("plus,equals_sign", "scale(1)", "Faster", show=False, id="train.faster", tooltip="Raise the rate"),
    Binding("o", "ghosts", "Others", show=False, id="train.others", tooltip="Other runs' loss behind this one's"),
    Binding("l", "log_axis", "Log axis", show=False, id="train.log", tooltip="Logarithmic loss axis on or off"),
    Binding("t", "axis", "Axis", show=False, id="train.axis", tooltip="Plot by steps, tokens or time"),
    Binding("z", "recent", "Zoom", show=False, id="train.zoom", tooltip="Show the last fifth only, or all"),
    Binding("m", "smoothing", "Smoothing", show=False, id="train.smoothing", tooltip="More or less smoothing"),
    Binding("v", "view", "View", show=False, id="train.view", tooltip="Log, sample, evaluations or device below"),
    Binding("f", "filter", "Filter", show=False, id="train.filter", tooltip="Filter the log"),
    Binding("y", "copy", "Copy", show=False, id="train.copy", tooltip="Copy what has the focus"),
    Binding("n", "new", "New", show=False, id="train.new", tooltip="Choose what to train next"),
)
# What steers a trainer, and what changes how a run is shown.
TO_TRAINERS = {"pause", "send", "scale"}
OF_A_RUN = {"chart", "log_axis", "axis", "recent", "smoothing", "view", "filter", "new", "ghosts"}
