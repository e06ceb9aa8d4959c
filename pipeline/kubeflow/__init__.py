"""Runs on a Kubeflow cluster: what is sent, the client of the Kubeflow Pipelines API, and the states of runs."""
