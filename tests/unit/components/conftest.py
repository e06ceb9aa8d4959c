"""What several files' tests of one step share: of ingest, of train."""

from helpers.ingest import folder, output
from helpers.nodes import cluster, copied, start
from helpers.train import checkpoint, impatient, settings, train

__all__ = ["checkpoint", "cluster", "copied", "folder", "impatient", "output", "settings", "start", "train"]
