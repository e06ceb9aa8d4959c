"""Classify environmental sound: audio files in, class probabilities out."""
