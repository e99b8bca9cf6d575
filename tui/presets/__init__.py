"""What the Presets pane is made of: a preset being changed, its form, its figures, and how it differs."""
