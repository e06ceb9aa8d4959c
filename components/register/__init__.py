"""The step register: a trained and evaluated model becomes a version in the model registry."""
