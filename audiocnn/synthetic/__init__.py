"""The demo data set: synthetic sounds, computed from a seed."""
