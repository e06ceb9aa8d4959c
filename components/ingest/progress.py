"""Lines of progress: often enough to see that it lives, seldom enough to read."""


def report_progress(verb: str, done: int, total: int, what: str = "clips") -> None:
    """Print `[ingest] checked 400/1600 clips` at every tenth of them."""
    if done * 10 // total != (done - 1) * 10 // total:
        print(f"[ingest] {verb} {done}/{total} {what}", flush=True)
