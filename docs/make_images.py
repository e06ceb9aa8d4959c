"""Write the images of README and docs: `python docs/make_images.py`, after `make demo`.

Debian's chromium has to be on the PATH. The graph is that of the compiled pipeline, the report that of the latest run,
the page that of the running gateway.
"""

import shutil
import sys
from pathlib import Path
from typing import Any, Literal

import yaml
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from playwright.sync_api import Browser, sync_playwright

from pipeline.compile import TRAINING

DOCS = Path(__file__).resolve().parent
PAGE = "http://127.0.0.1:8000"
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


def screenshots(browser: Browser, report: Path) -> None:
    """Write report.png, the top of an evaluation report, and two images of the page; sizes in pixels."""
    page = browser.new_page(viewport={"width": 1000, "height": 1180})
    page.goto(report.resolve().as_uri())
    page.screenshot(path=DOCS / "report.png")
    themes: tuple[tuple[Literal["light", "dark"], str, str], ...] = (
        ("light", "chirping birds", "page.png"),
        ("dark", "18 s with three sounds", "page-dark.png"),
    )
    for theme, example, image in themes:
        page = browser.new_page(viewport={"width": 1280, "height": 1060}, color_scheme=theme)
        page.goto(PAGE)
        page.get_by_role("button", name=example).click()
        page.locator("#maps .block").first.wait_for()
        page.wait_for_load_state("networkidle")
        page.locator("#result").evaluate("part => window.scrollTo(0, part.offsetTop - 12)")
        page.screenshot(path=DOCS / image, full_page=theme == "light")


def newest(pattern: str) -> Path:
    """Return the latest file of this name in the runs of the training pipeline."""
    found = sorted(Path("var/runs").glob(f"training-*/**/{pattern}"), key=lambda path: path.stat().st_mtime)
    if not found:
        sys.exit(f"error: no {pattern} in var/runs/training-*; run make demo first")
    return found[-1]


def main() -> None:
    """Write the images."""
    graph(task_groups(TRAINING)).savefig(DOCS / "graph.png")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        screenshots(browser, newest("metrics.json").parent / "report.html")
        browser.close()


if __name__ == "__main__":
    main()
