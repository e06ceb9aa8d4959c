"""Draw the pictures in README: `python docs/pictures.py`, after `make demo`, with Debian's chromium on the PATH.

The graph comes out of the committed pipeline, the curves and the report out of the latest training on this machine.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from pipeline.compile import TRAINING

HERE = Path(__file__).resolve().parent
INK, SOFT, BOX, GATE = "#1f2933", "#616e7c", "#eaf1f8", "#fdf0e6"
HANDS_ON = {
    "ingest": "clips.csv, audio/",
    "spectrogram-shard": "entries in the cache",
    "spectrograms": "float16 array",
    "train": "model.safetensors",
    "evaluate": "metrics, report",
    "register": "version, challenger",
    "promote": "champion, or not",
    "deploy": "TorchServe",
}


def task_groups(pipeline: Path) -> dict[str, str]:
    """Return the group of each task of a compiled pipeline: "root", "for-loop-1" or "condition-2"."""
    spec = next(yaml.safe_load_all(pipeline.read_text(encoding="utf-8")))
    dags = {"root": spec["root"]["dag"]}
    dags |= {name.removeprefix("comp-"): part["dag"] for name, part in spec["components"].items() if "dag" in part}
    return {task: group for group, dag in dags.items() for task in dag["tasks"] if task not in dags}


def graph(groups: dict[str, str]) -> Figure:
    """Draw the training pipeline's tasks in the order in which they run, with the output of each."""
    figure = Figure(figsize=(1.75 * len(groups), 1.5), dpi=130)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, len(groups)), ylim=(0, 1))
    axes.set_axis_off()
    for place, name in enumerate(HANDS_ON):
        gated, repeated = (groups[name].startswith(kind) for kind in ("condition", "for-loop"))
        middle, colour = place + 0.44, GATE if gated else BOX
        outline = "round,pad=0,rounding_size=0.05"
        for copy in (2, 1, 0) if repeated else (0,):  # a stack: it runs several times side by side
            corner = (place + 0.08 + 0.02 * copy, 0.3 + 0.06 * copy)
            axes.add_patch(FancyBboxPatch(corner, 0.72, 0.44, outline, fc=colour, ec=SOFT, lw=0.8))
        _write(axes, middle, 0.59, name, fontsize=min(10, 110 / len(name)), weight="bold", color=INK)
        _write(axes, middle, 0.42, HANDS_ON[name])
        if gated:
            _write(axes, middle, 0.16, "only if promote\nreturns “promote”")
        if place:
            arrow = {"arrowstyle": "-|>", "color": SOFT, "lw": 1}
            axes.annotate("", (place + 0.07, 0.52), (place - 0.19, 0.52), arrowprops=arrow)
    return figure


def _write(axes: Axes, x: float, y: float, text: str, **style: Any) -> None:
    axes.text(x, y, text, ha="center", va="center", **{"fontsize": 7.5, "color": SOFT, **style})


def screenshot(page: Path, picture: Path, width: int, height: int) -> None:
    """What a browser shows of the first `height` pixels of a page."""
    with tempfile.TemporaryDirectory() as profile:
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={profile}"]
        shot = [f"--window-size={width},{height}", f"--screenshot={picture}", page.resolve().as_uri()]
        subprocess.run(["chromium", *options, *shot], check=True, capture_output=True, timeout=120)


def newest(pattern: str) -> Path:
    """The latest file of that name in a run of the training pipeline."""
    found = sorted(Path("var/runs").glob(f"training-*/**/{pattern}"), key=lambda path: path.stat().st_mtime)
    if not found:
        sys.exit(f"error: no {pattern} in var/runs/training-*; run make demo first")
    return found[-1]


def main() -> None:
    """Write docs/graph.png, docs/report.png and docs/curves-*.png."""
    graph(task_groups(TRAINING)).savefig(HERE / "graph.png")
    evaluation = newest("metrics.json").parent
    screenshot(evaluation / "report.html", HERE / "report.png", 1000, 1180)
    curves = newest("history.csv").parent / "curves"
    for name in ("loss", "accuracy"):
        shutil.copyfile(curves / f"{name}.png", HERE / f"curves-{name}.png")


if __name__ == "__main__":
    main()
