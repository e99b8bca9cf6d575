"""What the Corpus pane is made of: asking `minigpt` for figures, watching its tasks, views of a text, dialogs."""
