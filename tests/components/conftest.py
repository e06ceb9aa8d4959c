"""What several files' tests of the step train share."""

from nodes_support import cluster, copied, start
from train_support import checkpoint, impatient, settings, train

__all__ = ["checkpoint", "cluster", "copied", "impatient", "settings", "start", "train"]
