"""The step register: add a trained and evaluated model to the model registry."""
