"""The library: sound in, class probabilities out."""
