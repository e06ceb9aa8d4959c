"""Progress in the log."""


def report_progress(action: str, done: int, total: int, unit: str = "clips") -> None:
    """Print for example `[ingest] checked 400/1600 clips`, at every tenth of `total`."""
    if done * 10 // total != (done - 1) * 10 // total:
        print(f"[ingest] {action} {done}/{total} {unit}", flush=True)
