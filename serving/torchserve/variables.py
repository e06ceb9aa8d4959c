"""Names that TorchServe's containers, their manifests and the step that deploys to them share."""

# Environment variables.
MODEL_STORE = "AUDIOCNN_MODEL_STORE"  # a folder or s3://bucket/prefix with archives and index.json
INFERENCE_KEYS = "AUDIOCNN_INFERENCE_KEYS"  # of the inference API, separated by spaces; clients send the first one
MAX_REQUEST_BYTES = "AUDIOCNN_MAX_REQUEST_BYTES"
STATE = "AUDIOCNN_TORCHSERVE_STATE"  # the only folder that the container writes to

# Kubernetes: serving/kubernetes/.
SECRET = "audiocnn-torchserve"  # noqa: S105  the name of one
SECRET_KEYS = {"model-store": MODEL_STORE, "inference-keys": INFERENCE_KEYS}
SERVICE = "audiocnn-torchserve"  # for clients: ports 8080 (inference) and 8082 (metrics)
REPLICAS_SERVICE = "audiocnn-torchserve-replicas"  # headless, for the step deploy: ports 8080 and 8081 (management)
DEPLOY_LABEL = ("audiocnn-step", "deploy")  # of the pods that may reach the management API
