"""The KFP graphs, and what runs them: this machine, containers on it, or a Kubeflow cluster."""
