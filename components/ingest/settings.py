"""The block `ingest` of params.yaml."""

from typing import Literal

from audiocnn.config import PositiveInt, Share
from audiocnn.strict_model import StrictModel
from mlops.settings import HttpAddress

Action = Literal["error", "quarantine", "warn"]
Removal = Literal["error", "quarantine"]  # for clips without usable samples


class IngestPolicy(StrictModel):
    """What to do with each kind of finding: fail the run, remove the clip, or report it."""

    missing: Removal
    undecodable: Removal
    truncated: Removal
    empty: Removal
    not_finite: Removal
    too_long: Removal
    too_short: Action
    silent: Action
    clipped: Action
    listed_twice: Action
    duplicate_audio: Action
    source_in_two_folds: Action
    few_clips: Action
    one_fold: Action


class IngestSettings(StrictModel):
    """Block `ingest`.

    Attributes:
        subset: `all`, or `esc10`: the ten classes that ESC-50 marks as ESC-10.
        max_clipped_share: a clip with more samples than this share at full scale is `clipped`.
        min_clips_per_class: a class with fewer clips has `few_clips`.
        esc50_url: address of the official release, for the source `esc50`.
        downloads: directory of downloaded files.
        max_source_bytes: maximum size of a download, and of an unpacked .zip.
        max_source_files: maximum number of members of a .zip.
        policy: see IngestPolicy.
    """

    subset: Literal["all", "esc10"]
    max_clipped_share: Share
    min_clips_per_class: PositiveInt
    esc50_url: HttpAddress
    downloads: str
    max_source_bytes: PositiveInt
    max_source_files: PositiveInt
    policy: IngestPolicy
