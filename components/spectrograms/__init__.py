"""The step spectrograms: a data set's clips as log-mel spectrograms, each computed once."""
