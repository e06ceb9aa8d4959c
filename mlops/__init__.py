"""Services that the steps share: artifacts, settings, tracking, storage, the spectrogram cache."""
