"""What the Runs pane is made of: the list of runs, a run's checkpoints, forks and replays."""
