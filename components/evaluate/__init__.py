"""The step evaluate: metrics of a trained classifier on the fold that it was not trained on."""
