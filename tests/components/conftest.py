"""What several files' tests of one step share: of ingest, of train."""

from ingest_support import folder, output
from nodes_support import cluster, copied, start
from train_support import checkpoint, impatient, settings, train

__all__ = ["checkpoint", "cluster", "copied", "folder", "impatient", "output", "settings", "start", "train"]
