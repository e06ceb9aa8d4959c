"""The step train: train a classifier on spectrograms."""
