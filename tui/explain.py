"""What each figure and chart means, in a sentence or two for somebody who sees it for the first time."""

from __future__ import annotations

EXPLANATIONS = {
    "state": "What the trainer is doing now. It is a process of its own: closing this window does not touch it. "
    "The trainer tells of itself every ten seconds; when it falls silent, this says for how long.",
    "step": "One step is one small improvement of the weights, made after reading one batch of text.",
    "epoch": "One epoch is one pass over the whole training text. Small models on little text need several.",
    "left": "How long the rest will take at the pace of the later half so far, with evaluations, samples and "
    "saving counted in and pauses left out; then the time on the clock when it should be done.",
    "loss": "How surprised the model is by the next token of the training text, on average (in nats): lower is "
    "better. Each batch differs, so the single values jump; the bright line is their moving average.",
    "validation": "The loss on text that is kept aside and never learned from. This is the figure that tells whether "
    "the model has understood the text or only memorised it.",
    "best": "The lowest validation loss so far, and the step it was reached at. The weights of that moment are "
    "kept in best_model.pt.",
    "perplexity": "The loss in another form, e to the power of it: the model is as unsure of the next token as if it "
    "had to pick one of this many equally likely ones.",
    "tokens_per_s": "How many tokens of text the trainer reads a second: its speed.",
    "lr": "The learning rate: how far the weights move at each step. It rises at first (warmup) and falls "
    "towards the end, so that the model settles. With - and + you scale it while it trains.",
    "grad_norm": "The length of the gradient: how strongly this batch asks the weights to change. Sudden peaks mean "
    "unusual text or a learning rate that is too high; values above the limit are scaled down to it.",
    "tokens": "How many tokens were read so far, and how many that is for each weight of the model. About 20 "
    "tokens a parameter make the best of a given amount of computing (Hoffmann et al. 2022).",
    "mfu": "Model FLOPs utilisation: which part of the device's peak arithmetic goes into the model. What the "
    "peak is measured against stands beside it.",
    "parameters": "The number of weights that are learned. More can hold more, need more text, and take longer.",
    "memory": "Memory in use on the computing device; on a CPU that is the machine's own memory.",
    "gpu": "How busy the graphics processor is, how hot, and how much power it draws of what it may draw.",
    "gpu_memory": "Video memory in use: by this training (ours) and by other programs (others).",
    "clock": "The graphics processor's clock, and the highest it can have. Much lower means that heat or the "
    "power limit holds it back.",
    "cpu": "How busy the machine's processors are, all of them together.",
    "ram": "The machine's memory in use, and the trainer's part of it.",
    "disk": "Space left where the checkpoints are written.",
    "evaluations": "Each line is one evaluation. The gap is validation minus training loss: while both fall, all is "
    "well; when training falls and validation rises, the model has begun to learn the text by heart.",
    "sample": "What the model makes of the same opening with the same random numbers, from step 0 on. Left and "
    "right go through the steps, up and down through the openings.",
    "log": "What happened, newest last. f filters it, y copies the line.",
    "loss_chart": "Loss by step. Dim: each step; bright: their moving average; diamonds: validation. It falls fast at"
    " first (which letters are common), then slowly (which words, which grammar). Left and right read "
    "values.",
    "perplexity_chart": "Perplexity by step, on a logarithmic axis: the number of tokens the model hesitates between.",
    "lr_chart": "The learning rate by step: warmup, plateau, decay, as the preset's schedule has it.",
    "grad_norm_chart": "Gradient norm by step. A calm band is healthy; growing peaks announce trouble.",
    "tokens_per_s_chart": "Speed by step. Dips are evaluations and saving, or other programs on the same machine.",
    "memory_chart": "Memory in use on the computing device over the run.",
}
