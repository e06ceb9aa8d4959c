"""The step pool: the predictions of many trainings put together."""
