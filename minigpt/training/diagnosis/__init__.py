"""The trainer's own judgement: what goes wrong in a run, told while something can be done about it.

    falling.py     the loss does not fall (rate too low, too high), rises again, stands still
    splits.py      learned by heart since a step; hardly learned at the end
    gradients.py   gradients beyond bounds
    nonfinite.py   which layer gave the first number that is none
    text.py        too little text, no order in it, the same again and again, documents shorter than the context
    machine.py     memory and disk running short
    time_spent.py  waiting for text, nothing saved for long
    curve.py       losses and their noise, from which the thresholds come
    doctor.py      brings all of them together, and says each thing once

Nothing here draws a random number or touches a weight: a run is the same to the last bit with it and without.
"""
