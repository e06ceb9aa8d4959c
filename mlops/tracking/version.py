"""A version of a registered model."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Version:
    """A version of a registered model.

    Attributes:
        number: the version, from 1.
        run_id: the run that trained it.
        model_id: the MLflow model with its files; empty for a version of another kind.
    """

    name: str
    number: int
    run_id: str
    tags: dict[str, str] = field(default_factory=dict)
    model_id: str = ""

    def __str__(self) -> str:
        return f"{self.name} version {self.number}"
