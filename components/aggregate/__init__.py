"""The step aggregate: combine the predictions of all trainings of a cross-validation or sweep."""
