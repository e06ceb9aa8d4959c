"""The page `decision.md`: the decision with its reasons, and challenger and champion side by side."""

from collections.abc import Iterable, Sequence

import pandas as pd

from components.promote.policy import Challenger, Champion, common_clips
from mlops.artifacts import DecisionRecord

RESULTS = {
    "promote": "becomes the champion",
    "refuse": "is refused; the champion stays",
    "keep": "is registered; the champion stays",
    "wait": 'waits for an approval: `audiocnn approve {number} --because "..."`',
}
CLASSES = 10  # rows of the table of classes


def result(record: DecisionRecord) -> str:
    """Return the outcome as one sentence."""
    return f"{record.name} version {record.challenger} {RESULTS[record.outcome].format(number=record.challenger)}"


def render(record: DecisionRecord, challenger: Challenger, champion: Champion | None) -> str:
    """Return the decision as Markdown, for the pages of Kubeflow and MLflow."""
    against = "no champion" if record.champion is None else f"champion: version {record.champion}"
    parts = [
        f"# {result(record)}\n\nDecided {record.decided_at}; {against}.",
        "\n".join(f"- {reason}" for reason in record.reasons),
    ]
    if record.comparison is not None and champion is not None:
        parts.append(_side_by_side(challenger, champion))
    parts.append(_table(("policy", ""), [(key, str(value)) for key, value in record.policy.items()]))
    return "\n\n".join(parts) + "\n"


def _side_by_side(challenger: Challenger, champion: Champion) -> str:
    """Return the accuracy of both models on their common clips, and the recall of the classes that changed most."""
    common = common_clips(challenger, champion)
    clips = pd.DataFrame([challenger.clips[clip] for clip in common])
    clips["before"] = [champion.correct[clip] for clip in common]
    rows = [("all classes", _share(clips["correct"]), _share(clips["before"]))]
    by_class = list(clips.groupby("category"))
    changes = {category: abs(int(group["correct"].sum()) - int(group["before"].sum())) for category, group in by_class}
    for category, group in sorted(by_class, key=lambda item: -changes[item[0]])[:CLASSES]:
        if changes[category]:
            rows.append((category, _share(group["correct"]), _share(group["before"])))
    head = (
        f"correct on {len(common)} common clips",
        f"version {challenger.version}",
        f"version {champion.version}",
    )
    return _table(head, rows)


def _share(hits: "pd.Series[bool]") -> str:
    return f"{int(hits.sum())} of {len(hits)} ({100 * hits.mean():.1f} %)"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
