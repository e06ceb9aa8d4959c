"""The memory of a process, for tests that start one to measure it."""

import re
from pathlib import Path


def peak_megabytes() -> int:
    """Return the largest memory of this process so far, in MiB.

    The resource module's ru_maxrss is at least the memory of the process that started this one.
    """
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) // 1024
