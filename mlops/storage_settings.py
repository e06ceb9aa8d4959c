"""The block `storage` of params.yaml: where data is kept."""

from typing import Annotated

from pydantic import Field

from audiocnn.strict_model import StrictModel


class StorageSettings(StrictModel):
    """Block `storage`: what outlives a run. Each is the path of a folder, or s3://bucket/prefix.

    Attributes:
        cache: spectrograms by the content of their clips.
        checkpoints: of trainings.
    """

    cache: Annotated[str, Field(min_length=1)]
    checkpoints: Annotated[str, Field(min_length=1)]
