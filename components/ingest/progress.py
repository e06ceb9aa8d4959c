"""Lines of progress: often enough to see that it lives, seldom enough to read."""


def report_progress(verb: str, done: int, clips: int) -> None:
    """Print `[ingest] checked 400/1600 clips` at every tenth of the clips."""
    if done * 10 // clips != (done - 1) * 10 // clips:
        print(f"[ingest] {verb} {done}/{clips} clips", flush=True)
