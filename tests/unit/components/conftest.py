"""Fixtures for tests of the steps ingest and train."""

from helpers.ingest import folder, output
from helpers.nodes import cluster, copying_cluster, start
from helpers.train import checkpoint, settings, short_retries, train

__all__ = [
    "checkpoint",
    "cluster",
    "copying_cluster",
    "folder",
    "output",
    "settings",
    "short_retries",
    "start",
    "train",
]
