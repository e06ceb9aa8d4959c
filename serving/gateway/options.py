"""The queries of the routes. An unknown option is refused. A description says which values an option has."""

from pydantic import BaseModel, ConfigDict, Field


class ClassifyOptions(BaseModel):
    """Options of an answer.

    Attributes:
        top_k: number of classes in `predictions`.
        events: also return where in the recording each class was heard.
        windows: also return the probabilities of each window, from which a client merges the answers to the parts of
            a recording, as `audiocnn classify` does.
    """

    model_config = ConfigDict(extra="forbid")

    top_k: int | None = Field(default=None, ge=1, le=100_000, description="a number from 1 to the number of classes")
    events: bool | None = Field(default=None, description="true or false")
    windows: bool | None = Field(default=None, description="true or false")

    @property
    def query(self) -> dict[str, str]:
        """The query for TorchServe."""
        return {name: str(value).lower() for name, value in self if value is not None}


class ExplainOptions(BaseModel):
    """Options of an explanation.

    Attributes:
        label: class of the activation map; without it, the most probable one.
        start: of the window, in s.
    """

    model_config = ConfigDict(extra="forbid")

    label: str | None = Field(default=None, alias="class", max_length=255, description="the name of a class")
    start: float | None = Field(
        default=None,
        ge=0,
        le=86_400,
        allow_inf_nan=False,
        description="a time in s from the beginning of the recording",
    )

    @property
    def query(self) -> dict[str, str]:
        """The query for TorchServe."""
        values = {"class": self.label, "start": self.start}
        return {name: str(value) for name, value in values.items() if value is not None}
