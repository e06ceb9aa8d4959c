"""Benchmarks: the figures in README and docs, each measured against a named baseline in the same run."""
