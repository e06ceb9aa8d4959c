"""Fixtures for tests of the steps ingest and train."""

from helpers.ingest import folder, output
from helpers.nodes import cluster, copied, start
from helpers.train import checkpoint, impatient, settings, train

__all__ = ["checkpoint", "cluster", "copied", "folder", "impatient", "output", "settings", "start", "train"]
