"""Debian's PostgreSQL on loopback."""

import getpass
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from helpers.torchserve import free_ports


@dataclass(frozen=True)
class Postgres:
    """A running server with an empty database `mlflow` of the user `mlflow`."""

    port: int
    password: str


@contextmanager
def postgres(folder: Path, password: str) -> Iterator[Postgres]:
    """Start a server in a new folder; without an installed PostgreSQL the test is skipped."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not found:
        pytest.skip("no /usr/lib/postgresql: apt-get install postgresql")
    # It refuses to run as root. The folder must be one that its own user can enter.
    user = "postgres" if os.getuid() == 0 else getpass.getuser()
    folder.mkdir()
    (folder / "password").write_text(password)
    for path in (folder, folder / "password"):
        shutil.chown(path, user)
    (port,) = free_ports(1)
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories="
    data, log = folder / "data", folder / "log"

    def run(program: str, *arguments: str, **environment: str) -> None:
        command = [str(found[-1] / program), *arguments]
        subprocess.run(command, user=user, cwd="/", env={"PATH": os.environ["PATH"], **environment}, check=True)

    # Without a UTF-8 encoding, psycopg returns bytes instead of text.
    login = ("-U", "mlflow", "--auth=scram-sha-256", f"--pwfile={folder / 'password'}")
    run("initdb", "-D", str(data), "--encoding=UTF8", "--no-locale", *login)
    run("pg_ctl", "-D", str(data), "-o", options, "-l", str(log), "-w", "start")
    try:
        run("createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "mlflow", "mlflow", PGPASSWORD=password)
        yield Postgres(port, password)
    finally:
        run("pg_ctl", "-D", str(data), "-m", "fast", "-w", "stop")
