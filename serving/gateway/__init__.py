"""The gateway: the HTTP API that clients use, in front of TorchServe. `python -m serving.gateway` starts it."""
