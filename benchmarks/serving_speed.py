"""`make bench-serve`: how fast a clip is classified in process and by servers, measured side by side in one run.

All are started first and measured in turns, in rounds. In process: the network in eager mode and in each backend.
Servers: TorchServe as it was (eager, 20 ms delay) and as it is; the gateway in front of it; FastAPI around the eager
network; LitServe around OpenVINO, with batches, as its documentation shows it and with decoding threads like those of
TorchServe's handler. The network has random weights, which changes no time.

The clips are 16-bit WAV, as in the official release of ESC-50; with --as-stored, in the format that DATA has.
"""

import itertools
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np
import requests
import torch
import typer
from rich.console import Console
from rich.table import Table

from audiocnn.audio import load
from audiocnn.classifier import Classifier
from audiocnn.model import AudioCNN
from benchmarks.servers import Server, fastapi, free_addresses, free_ports, gateway, litserve, torchserve_with
from benchmarks.wav import SCRATCH, write_wav
from mlops.command_line import run
from pipeline import settings as pipeline_settings
from pipeline.settings import PipelineSettings
from serving.torchserve import backends
from serving.torchserve.archive import build_archive
from serving.torchserve.handler import DECODING_THREADS
from serving.torchserve.settings import ModelSettings

CLIPS = 8
CLASSES = 50
CLIENTS = 8
WARM_UP = 10  # requests


@dataclass
class Times:
    """What was measured of one target.

    Attributes:
        single: duration of each request of a lone client in ms, by round.
        rates: requests per second of eight clients, by round.
    """

    single: list[list[float]] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)

    def figures(self) -> dict[str, float]:
        """Return the median and the 99th percentile of a lone client in ms, and the rate of eight clients per s."""
        every = list(itertools.chain(*self.single))
        figures = {"p50": median(map(median, self.single)), "p99": float(np.percentile(every, 99))}
        return figures | ({"rate": median(self.rates)} if self.rates else {})


def main(
    data: Annotated[Path, typer.Option(help="Folder in ESC-50's layout.")],
    rounds: Annotated[int, typer.Option(min=1, help="Number of rounds.")] = 5,
    requests_: Annotated[int, typer.Option("--requests", min=10, help="Of each client in every round.")] = 40,
    recipe: Annotated[str, typer.Option(help="Recipe of the network.")] = "seed",
    delay: Annotated[int | None, typer.Option(min=0, help="Of TorchServe as it is, in ms.")] = None,
    as_stored: Annotated[bool, typer.Option("--as-stored", help="Send the clips in the format that DATA has.")] = False,
    output: Annotated[Path, typer.Option(help="File for the figures.")] = Path("var/bench/serving.json"),
) -> None:
    """Measure, print the figures and write them as JSON."""
    console = Console()
    SCRATCH.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=SCRATCH) as scratch:
        clips = _read_clips(data, None if as_stored else Path(scratch) / "clips")
        settings = _settings(Path(scratch), recipe, delay)
        model = _save_model(settings, Path(scratch) / "model")
        with _targets(settings, model, Path(scratch), clips) as (local, servers):
            times = {name: Times() for name in (*local, *servers)}
            for number in range(rounds):
                console.print(f"round {number + 1} of {rounds}")
                _measure(local, servers, clips, requests_, times)
    figures: dict[str, Any] = {name: each.figures() for name, each in times.items()}
    format_ = "clips as stored" if as_stored else "WAV clips"
    figures = {"recipe": recipe, "rounds": rounds, "clips": format_, "targets": figures, "ratios": _ratios(figures)}
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    _print(console, figures)


def _read_clips(data: Path, wav: Path | None) -> list[bytes]:
    """Return clips taken evenly from the data set, as WAV if a folder for them is given."""
    folder = data if wav is None else write_wav(data, wav, CLIPS)
    paths = sorted((folder / "audio").iterdir())
    return [path.read_bytes() for path in paths[:: max(1, len(paths) // CLIPS)][:CLIPS]]


def _settings(scratch: Path, recipe: str, delay: int | None) -> PipelineSettings:
    changes: dict[str, Any] = {**free_addresses(), "state": str(scratch / "torchserve")}
    if delay is not None:
        changes["max_batch_delay_ms"] = delay
    return pipeline_settings.load(overrides={"recipe": recipe, "deploy": changes})


def _save_model(settings: PipelineSettings, folder: Path) -> Path:
    network = AudioCNN(CLASSES, settings.spectrograms.n_mels, settings.train.architecture)
    folder.mkdir()
    Classifier(network, settings.spectrograms, [f"class {index}" for index in range(CLASSES)]).save(folder)
    return folder


@contextmanager
def _targets(
    settings: PipelineSettings, model: Path, scratch: Path, clips: list[bytes]
) -> Iterator[tuple[dict[str, Callable[[bytes], object]], dict[str, Server]]]:
    """Start everything; yield the functions that classify a clip in this process, and the servers, by name."""
    now = settings.deploy
    local, folders = {"eager, in process": _classify_with(Classifier.load(model))}, {}
    for name in ("torch", "onnxruntime", "openvino"):
        archive = build_archive(model, name, 1, scratch, now.replace(backend=name), clips)
        folders[name] = scratch / name
        shutil.unpack_archive(archive, folders[name], "zip")  # as TorchServe does for its workers
        local[f"{name}, in process"] = _classify_like_handler(backends.load(folders[name], torch.device("cpu")))
    before = ModelSettings(backend="torch", bf16=False, workers=1, batch_size=8, max_batch_delay_ms=20)
    ports = free_ports(4)
    with ExitStack() as stack:
        served = stack.enter_context(torchserve_with(settings, model, {"before": before, "now": now}))
        front = stack.enter_context(gateway(settings, "now", ports[0], scratch / "gateway.log"))
        eager = stack.enter_context(fastapi(model, ports[1], scratch / "fastapi.log"))
        plain, threads = (
            stack.enter_context(litserve(folders["openvino"], count, port, scratch / f"litserve{count}.log"))
            for count, port in ((0, ports[2]), (DECODING_THREADS, ports[3]))
        )
        yield (
            local,
            {
                "TorchServe, before": served["before"],
                "TorchServe": served["now"],
                "gateway and TorchServe": front,
                "FastAPI, eager": eager,
                "LitServe, OpenVINO": plain,
                "LitServe, decoding threads": threads,
            },
        )


def _classify_with(classifier: Classifier) -> Callable[[bytes], object]:
    def classify(clip: bytes) -> object:
        return classifier.classify(torch.from_numpy(load(clip, classifier.settings))[None]).tolist()

    return classify


def _classify_like_handler(classifier: Classifier) -> Callable[[bytes], object]:
    """Return what the handler does with a clip, without TorchServe: spectrograms in a thread of its own."""
    pool = ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,))

    def compute(clip: bytes) -> torch.Tensor:
        return classifier.front_end(torch.from_numpy(load(clip, classifier.settings)))

    return lambda clip: classifier.classify_spectrograms(pool.submit(compute, clip).result()[None]).tolist()


def _measure(
    local: Mapping[str, Callable[[bytes], object]],
    servers: Mapping[str, Server],
    clips: list[bytes],
    count: int,
    times: dict[str, Times],
) -> None:
    """Measure every target once; the first requests of each are not counted."""
    for name, classify in local.items():
        times[name].single.append(_durations(classify, clips, WARM_UP + count)[WARM_UP:])
    for name, server in servers.items():
        with server.running():
            times[name].single.append(_durations(_client(server), clips, WARM_UP + count)[WARM_UP:])
    for name, server in servers.items():
        clients = [_client(server) for _ in range(CLIENTS)]
        with server.running(), ThreadPoolExecutor(CLIENTS) as pool:
            list(pool.map(lambda ask: _durations(ask, clips, 3), clients))
            began = time.perf_counter()
            list(pool.map(lambda ask: _durations(ask, clips, count), clients))
            times[name].rates.append(CLIENTS * count / (time.perf_counter() - began))


def _client(server: Server) -> Callable[[bytes], object]:
    session = requests.Session()
    session.trust_env = False

    def ask(clip: bytes) -> object:
        response = server.send(session, clip)
        response.raise_for_status()
        return response.json()["predictions"][0]["class"]

    return ask


def _durations(ask: Callable[[bytes], object], clips: list[bytes], count: int) -> list[float]:
    """Return the durations in ms."""
    durations = []
    for clip in itertools.islice(itertools.cycle(clips), count):
        began = time.perf_counter()
        ask(clip)
        durations.append(1000 * (time.perf_counter() - began))
    return durations


def _ratios(figures: Mapping[str, Mapping[str, float]]) -> list[tuple[str, float, str]]:
    """Return the comparisons that have a goal: name, figure, goal."""
    before, served, front = (figures[key] for key in ("TorchServe, before", "TorchServe", "gateway and TorchServe"))
    local, eager, plain, threads = (
        figures[key]
        for key in ("openvino, in process", "FastAPI, eager", "LitServe, OpenVINO", "LitServe, decoding threads")
    )
    return [
        ("one client: gateway / TorchServe before", front["p50"] / before["p50"], "at most 0.45"),
        ("one client: gateway - same backend in process, ms", front["p50"] - local["p50"], "at most 8"),
        ("one client: gateway - TorchServe alone, ms", front["p50"] - served["p50"], "at most 3"),
        ("8 clients: gateway / FastAPI, eager", front["rate"] / eager["rate"], "at least 2"),
        ("8 clients: gateway / LitServe", front["rate"] / plain["rate"], "at least 1.1"),
        ("8 clients: gateway / LitServe, decoding threads", front["rate"] / threads["rate"], ""),
        ("one client: p99 / p50 of the gateway", front["p99"] / front["p50"], "at most 3"),
    ]


def _print(console: Console, figures: Mapping[str, Any]) -> None:
    table = Table(title=f"recipe {figures['recipe']}, {figures['rounds']} rounds, {figures['clips']}")
    table.add_column("", no_wrap=True)
    for column in ("one client: p50, ms", "p99, ms", f"{CLIENTS} clients: requests/s"):
        table.add_column(column, justify="right")
    for name, each in figures["targets"].items():
        rate = f"{each['rate']:.1f}" if "rate" in each else ""
        table.add_row(name, f"{each['p50']:.1f}", f"{each['p99']:.1f}", rate)
    console.print(table)
    goals = Table("measure", "figure", "goal")
    for name, figure, goal in figures["ratios"]:
        goals.add_row(name, f"{figure:.2f}", goal)
    console.print(goals)


if __name__ == "__main__":
    run(main)
