"""The component notify: report a failed Kubeflow run to a webhook."""
