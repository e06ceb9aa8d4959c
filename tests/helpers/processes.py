"""Helper for tests that start and stop processes."""

import psutil


def is_alive(process: psutil.Process) -> bool:
    """Return whether a process runs. An orphan that ended may remain a zombie until PID 1 reaps it."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:  # reaped between the two
        return False
