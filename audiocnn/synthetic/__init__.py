"""The embedded data set: synthetic sounds."""
