"""The step plan_trials: the trainings of a cross-validation or sweep."""
