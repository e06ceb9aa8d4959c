"""Names, titles and outputs of the steps, shared by the KFP graphs and the local runner."""

TITLES = {
    "check_parameters": "Check the parameters",
    "check_plan": "Check the parameters",
    "ingest": "Ingest clips",
    "spectrogram_shard": "Compute spectrograms",
    "spectrograms": "Gather spectrograms",
    "train": "Train",
    "evaluate": "Evaluate",
    "register": "Register the version",
    "promote": "Decide on promotion",
    "deploy": "Deploy to TorchServe",
    "plan_trials": "Plan the trainings",
    "aggregate": "Aggregate the predictions",
    "notify": "Report a failure",
}
# The folder or file that each step writes; in the graphs, the name of the component's output.
OUTPUTS = {
    "ingest": "dataset",
    "spectrograms": "spectrograms",
    "train": "model",
    "evaluate": "evaluation",
    "register": "registration",
    "promote": "decision",
    "deploy": "deployment",
    "plan_trials": "plan.json",
    "aggregate": "aggregate",
}
# In the order in which they run. The graphs have more tasks: the parameters are checked before anything else, shards
# compute the spectrograms, and notify reports a failed run.
TRAINING_STEPS = ("ingest", "spectrograms", "train", "evaluate", "register", "promote", "deploy")
CROSSVAL_STEPS = ("ingest", "spectrograms", "plan_trials", "train", "evaluate", "aggregate")
