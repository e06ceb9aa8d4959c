"""The step deploy: make TorchServe serve the champion of the registry."""
