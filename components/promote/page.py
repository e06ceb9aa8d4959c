"""The page `decision.md`: the decision with its reasons and the policy."""

from mlops.artifacts import DecisionRecord

RESULTS = {
    "promote": "becomes the champion",
    "refuse": "is refused; the champion stays",
    "keep": "is registered; the champion stays",
    "wait": "waits for approval",
}


def result(record: DecisionRecord) -> str:
    return f"{record.name} version {record.challenger} {RESULTS[record.outcome]}"


def render(record: DecisionRecord) -> str:
    """Return the decision as Markdown, for the pages of Kubeflow and MLflow."""
    against = "no champion" if record.champion is None else f"champion: version {record.champion}"
    parts = [
        f"# {result(record)}\n\nDecided {record.decided_at}; {against}.",
        "\n".join(f"- {reason}" for reason in record.reasons),
    ]
    if record.outcome == "wait":
        parts.append(f"To approve it: `audiocnn approve {record.challenger}`")
    if record.comparison is not None:
        parts.append("Challenger and champion side by side: `comparison.html` in the same folder.")
    rows = [("policy", ""), ("---", "---"), *record.policy.items()]
    parts.append("\n".join(f"| {key} | {value} |" for key, value in rows))
    return "\n\n".join(parts) + "\n"
