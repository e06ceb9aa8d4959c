"""Progress of a step in its log."""


def report_progress(step: str, action: str, done: int, total: int, unit: str = "clips", count: int = 1) -> None:
    """Print for example `[ingest] checked 400/1600 clips`, about ten times until `done` reaches `total`.

    Args:
        count: how many of `done` are new since the previous call.
    """
    if done * 10 // total != (done - count) * 10 // total:
        print(f"[{step}] {action} {done}/{total} {unit}", flush=True)
