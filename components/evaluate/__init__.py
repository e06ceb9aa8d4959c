"""The step evaluate: measure a trained classifier on the fold that it was not trained on."""
