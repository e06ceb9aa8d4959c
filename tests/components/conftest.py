"""The cluster that the tests of a training on several nodes share."""

from nodes_support import cluster, copied, start

__all__ = ["cluster", "copied", "start"]
