"""The clip table, its folds, and spectrograms in batches."""
