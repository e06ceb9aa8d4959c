"""The step train: spectrograms in, a classifier and its history out."""
