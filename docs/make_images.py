"""Write the images of README and docs: `python docs/make_images.py`, after `make demo`.

Debian's chromium has to be on the PATH. The graph is that of the compiled pipeline, the report that of the latest run.
"""

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

DOCS = Path(__file__).resolve().parent
TEXT, SUBTEXT, BOX, GATED_BOX = "#1f2933", "#616e7c", "#eaf1f8", "#fdf0e6"
OUTLINE = "round,pad=0,rounding_size=0.05"
OUTPUTS = {  # of the tasks, in the order in which they run
    "check-parameters": "checks the run",
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
    """Draw the tasks of the training pipeline and their outputs."""
    figure = Figure(figsize=(1.75 * len(OUTPUTS), 1.5), dpi=130)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, len(OUTPUTS)), ylim=(0, 1))
    axes.set_axis_off()
    for left, (name, output) in enumerate(OUTPUTS.items()):
        gated, repeated = (groups[name].startswith(kind) for kind in ("condition", "for-loop"))
        middle, color = left + 0.44, GATED_BOX if gated else BOX
        for copy in (2, 1, 0) if repeated else (0,):  # a stack of boxes for parallel tasks
            corner = (left + 0.08 + 0.02 * copy, 0.3 + 0.06 * copy)
            axes.add_patch(FancyBboxPatch(corner, 0.72, 0.44, OUTLINE, fc=color, ec=SUBTEXT, lw=0.8))
        _write(axes, middle, 0.59, name, fontsize=min(10, 110 / len(name)), weight="bold", color=TEXT)
        _write(axes, middle, 0.42, output)
        if gated:
            _write(axes, middle, 0.16, "only if promote\nreturns “promote”")
        if left:
            arrow = {"arrowstyle": "-|>", "color": SUBTEXT, "lw": 1}
            axes.annotate("", (left + 0.07, 0.52), (left - 0.19, 0.52), arrowprops=arrow)
    return figure


def _write(axes: Axes, x: float, y: float, text: str, **style: Any) -> None:
    axes.text(x, y, text, ha="center", va="center", **{"fontsize": 7.5, "color": SUBTEXT, **style})


def screenshot(page: Path, image: Path, width: int, height: int) -> None:
    """Write a screenshot of the top of an HTML page; sizes in pixels."""
    with tempfile.TemporaryDirectory() as profile:
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={profile}"]
        options += [f"--window-size={width},{height}", f"--screenshot={image}", page.resolve().as_uri()]
        subprocess.run(["chromium", *options], check=True, capture_output=True, timeout=120)


def newest(pattern: str) -> Path:
    """Return the latest file of this name in the runs of the training pipeline."""
    found = sorted(Path("var/runs").glob(f"training-*/**/{pattern}"), key=lambda path: path.stat().st_mtime)
    if not found:
        sys.exit(f"error: no {pattern} in var/runs/training-*; run make demo first")
    return found[-1]


def main() -> None:
    """Write docs/graph.png and docs/report.png."""
    graph(task_groups(TRAINING)).savefig(DOCS / "graph.png")
    evaluation = newest("metrics.json").parent
    screenshot(evaluation / "report.html", DOCS / "report.png", 1000, 1180)


if __name__ == "__main__":
    main()
