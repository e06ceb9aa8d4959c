"""`python -m pipeline.cli`: the `audiocnn` command."""

from pipeline.cli import app

app()
