"""The step deploy: the champion becomes what TorchServe serves."""
