"""The step plan: which trainings a cross-validation or a sweep consists of."""
