"""The clip table, its folds, and spectrograms as batches."""
