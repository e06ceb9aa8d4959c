"""The image that a submitted run uses: the one of the git revision, by a name that a cluster can pull."""

import re

from mlops.image import REPOSITORY
from mlops.provenance import DIRTY, UNKNOWN, git_revision
from pipeline.kubeflow.errors import KubeflowError

SHORT = 7  # characters of a commit's hash
# A registry, a path in lower case, then a tag, a digest or both; others are never pulled (InvalidImageName).
NAME = re.compile(r"([\w.-]+(:\d+)?/)?[a-z0-9]+([._/-]+[a-z0-9]+)*(:\w[\w.-]{0,127})?(@[a-z0-9]+:[0-9a-f]+)?", re.ASCII)


def short_revision() -> str:
    """Return the git revision in a few characters, such as a1b2c3d, a1b2c3d-dirty or unknown."""
    revision = git_revision()
    return revision if revision == UNKNOWN else revision[:SHORT] + (DIRTY if revision.endswith(DIRTY) else "")


def choose_image(image: str | None, on_nodes: bool = False) -> str:
    """Return the complete name of the image.

    Args:
        image: a name as the cluster pulls it; without a tag, that of the git revision is appended. None is the
            project's own repository.
        on_nodes: whether the nodes have the image already, so that a name without a registry is allowed.
    Raises:
        KubeflowError: no cluster could pull the image, or its tag is not known.
    """
    name = image or REPOSITORY
    if "@" not in name and ":" not in name.rpartition("/")[2]:
        name = f"{name}:{_tag()}"
    if not NAME.fullmatch(name):
        raise KubeflowError(f"--image {name!r}: is not the name of an image, such as {REPOSITORY}:a1b2c3d")
    registry, slash, _ = name.partition("/")
    has_registry = bool(slash) and (registry == "localhost" or not {".", ":"}.isdisjoint(registry))
    if not has_registry and not on_nodes:
        raise KubeflowError(
            f"--image {name}: no cluster can pull an image without a registry in its name; push it, and give the "
            f"whole name, such as registry.example.org/{name}, or add --image-on-nodes if the nodes have it already"
        )
    return name


def _tag() -> str:
    revision = short_revision().removesuffix(DIRTY)
    if revision == UNKNOWN:
        raise KubeflowError("the git revision is unknown, and with it the tag of the image: give --image NAME:TAG")
    return revision
