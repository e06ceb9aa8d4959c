"""The block `register` of params.yaml, which the steps register and deploy read."""

from typing import Annotated

from pydantic import AfterValidator

from audiocnn.strict_model import StrictModel

NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")


def _check_name(name: str) -> str:
    """The name is part of URLs and of file names."""
    if not name or not set(name) <= NAME_CHARACTERS:
        raise ValueError("should consist of letters a to z, digits, - and _")
    return name


class RegisterSettings(StrictModel):
    """Block `register`: the name of the registered model."""

    name: Annotated[str, AfterValidator(_check_name)]
