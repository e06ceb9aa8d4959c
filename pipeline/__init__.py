"""The graphs, and the command line that runs them: on this machine, in containers, on a cluster."""
