"""Progress of a step in its log."""


def report_progress(
    step: str, action: str, done: int, total: int, unit: str = "clips", previous: int | None = None
) -> None:
    """Print for example `[ingest] checked 400/1600 clips`, about ten times until `done` reaches `total`.

    Args:
        previous: `done` of the previous call; by default one less.
    """
    if previous is None:
        previous = done - 1
    if done * 10 // total != previous * 10 // total:
        print(f"[{step}] {action} {done}/{total} {unit}", flush=True)
