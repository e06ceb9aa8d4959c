"""`make soak`: eight clients, while the endpoint is redeployed three times and rolled back, then for 20,000 requests.

It runs the demo with servers of its own, then changes settings, approves a second version and rolls back under load.
Every request has to be answered by the gateway, with the answer that the version gave to that clip before, and the
memory of the processes must not grow over the last 20,000.
"""

import itertools
import json
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import psutil
import requests
import typer
from rich.console import Console

from audiocnn.synthetic.dataset import write_demo
from benchmarks.servers import Server, binary, free_addresses, free_ports
from benchmarks.wav import SCRATCH
from mlops.command_line import run
from mlops.runtime import sigterm_as_exit
from mlops.settings import PARAMS
from pipeline import settings as pipeline_settings
from serving.supervision.endpoint import gateway_process, stop
from serving.torchserve import server as torchserve

CLIENTS = 8
TOLERANCE = 1e-3  # of the probability of the first class; runtimes and batches round differently
GROWTH = 1.1  # of a process's memory after the changes
QUICK = (  # options of a training whose accuracy does not matter
    "--epochs=2",
    "--set=promote.min_accuracy=0",
    "--set=promote.min_class_recall=0",
    "--set=promote.max_calibration_error=1",
    "--set=promote.max_latency_ms=1e6",
    "--set=evaluate.robustness_clips=0",
)
WARM_UP = 1000  # requests after the changes, before the memory of the processes is first measured


@dataclass
class Load:
    """The requests of all clients, and what came back.

    Attributes:
        answers: number of answers by version.
        problems: unanswered requests and wrong answers, one sentence each.
        expected: the first answer to a clip, by version and number of the clip.
    """

    server: Server
    clips: list[bytes]
    total: int = 0
    answers: Counter[int] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    expected: dict[tuple[int, int], dict[str, Any]] = field(default_factory=dict)
    changing: threading.Event = field(default_factory=threading.Event)  # requests go on while it is set
    lock: threading.Lock = field(default_factory=threading.Lock)

    def send_requests(self) -> None:
        """Send requests as one client until there are enough and nothing changes any more."""
        session = requests.Session()
        session.trust_env = False
        for number in itertools.cycle(range(len(self.clips))):
            if self.answers.total() >= self.total and not self.changing.is_set():
                return
            try:
                response = self.server.send(session, self.clips[number])
                response.raise_for_status()
                self._check(number, response.json())
            except requests.RequestException as error:
                self.problems.append(f"{error}: {getattr(error.response, 'text', '')[:200]}")

    def _check(self, number: int, answer: dict[str, Any]) -> None:
        version, best = answer["model"]["version"], answer["predictions"][0]
        with self.lock:
            self.answers[version] += 1
            expected = self.expected.setdefault((version, number), best)
        if expected["class"] != best["class"] or abs(expected["probability"] - best["probability"]) > TOLERANCE:
            self.problems.append(f"version {version}, clip {number}: {best} instead of {expected}")


def main(
    total: Annotated[int, typer.Option("--requests", min=2 * WARM_UP, help="After the changes.")] = 20_000,
    output: Annotated[Path, typer.Option(help="File for the figures.")] = Path("var/bench/soak.json"),
) -> None:
    """Run, print the figures and write them as JSON; the exit status is 1 if something was lost or grew."""
    console = Console()
    SCRATCH.mkdir(parents=True, exist_ok=True)
    with sigterm_as_exit(), tempfile.TemporaryDirectory(dir=SCRATCH) as scratch:
        figures = _run(console, Path(scratch).resolve(), total)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    console.print_json(data=figures)
    if figures["problems"] or any(last > GROWTH * first for first, last in figures["memory, MB"].values()):
        raise typer.Exit(1)


def _run(console: Console, folder: Path, total: int) -> dict[str, Any]:
    changes = {**free_addresses(), "state": str(folder / "ts")}
    settings = pipeline_settings.load(overrides={"recipe": "demo", "deploy": changes})
    (port,) = free_ports(1)
    options = [*(f"--set=deploy.{key}={value}" for key, value in changes.items()), f"--set=gateway.port={port}"]

    def audiocnn(*words: str) -> None:
        console.print(f"audiocnn {' '.join(words)}")
        command = [str(Path(sys.executable).with_name("audiocnn")), *words, *options, f"--params={PARAMS.resolve()}"]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    try:
        audiocnn("demo", *QUICK)
        clips = [path.read_bytes() for path in sorted((write_demo(folder / "clips", 1) / "audio").iterdir())[:CLIENTS]]
        load = Load(binary(f"http://127.0.0.1:{port}/classify", {}), clips)
        load.changing.set()
        clients = [threading.Thread(target=load.send_requests) for _ in range(CLIENTS)]
        for client in clients:
            client.start()
        try:
            audiocnn("deploy", "--set=deploy.batch_size=4")
            audiocnn("deploy", "--set=deploy.backend=onnxruntime")
            audiocnn("demo", *QUICK, "--set=train.seed=1", "--set=promote.approval=person")
            audiocnn("approve", "2", "--because=a test under load")
            audiocnn("rollback")
            changed = load.answers.total()
            load.total = changed + total
        finally:
            load.changing.clear()
        memory = _memory_while(load, clients, Path(settings.deploy.state), changed)
        if load.problems:
            log = gateway_process(Path(settings.deploy.state)).log_file
            console.print(log.read_text(encoding="utf-8")[-2000:])
    finally:
        stop(Path(settings.deploy.state))
    answers = {f"version {version}": count for version, count in sorted(load.answers.items())}
    return {"answers": answers, "problems": load.problems[:20], "memory, MB": memory}


def _memory_while(load: Load, clients: list[threading.Thread], state: Path, since: int) -> dict[str, tuple[int, int]]:
    """Wait until all requests are answered; return the memory of each process after WARM_UP of them, and at the end."""
    java, gateway = torchserve.find(state), gateway_process(state).find()
    assert java is not None
    assert gateway is not None
    processes = {"gateway": gateway, "TorchServe": java} | {
        f"worker {each.pid}": each for each in java.children(recursive=True)
    }
    while load.answers.total() < since + WARM_UP and clients[0].is_alive():
        clients[0].join(0.2)
    first = {name: _megabytes(process) for name, process in processes.items()}
    while any(client.is_alive() for client in clients):
        last = {name: _megabytes(process) for name, process in processes.items()}
        clients[0].join(1)
    return {name: (first[name], last[name]) for name in processes}


def _megabytes(process: psutil.Process) -> int:
    return round(process.memory_info().rss / 2**20)


if __name__ == "__main__":
    run(main)
