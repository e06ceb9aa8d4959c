"""TorchServe: handler, model archive, client, and the server process on this machine."""
