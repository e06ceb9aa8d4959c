"""`audiocnn serve`: TorchServe and the gateway of this machine, restarted if one ends or hangs."""
