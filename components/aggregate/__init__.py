"""The step aggregate: the results of all trainings of a cross-validation or sweep."""
