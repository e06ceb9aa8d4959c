"""The step evaluate: what a trained classifier reaches on the fold that it has not seen."""
