"""The step spectrograms: compute the log-mel spectrogram of every clip, with a cache."""
