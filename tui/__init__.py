"""`minigpt-tui`: the terminal app over the core. It knows `minigpt`; `minigpt` never knows it."""
