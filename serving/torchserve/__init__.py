"""TorchServe: the handler, the archive that it loads, its HTTP APIs, and the process on this machine."""
