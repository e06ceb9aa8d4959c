"""Serving: the handler inside TorchServe, the archive that it loads, and the server's management API."""
