"""The step plan_trials: list the trainings of a cross-validation or sweep."""
