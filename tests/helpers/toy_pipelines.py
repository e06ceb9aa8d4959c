"""Small pipelines that behave well and badly in the ways that the runner has to tell apart."""

from pathlib import Path

from kfp import dsl
from kfp.compiler import Compiler

IMAGE = "audiocnn-pipeline:test"
# What KFP writes when a task starts and ends, with its colours.
STARTED = "19:16:22.895 - INFO - Executing task \x1b[96m'{}'\x1b[0m\n"
ENDED = "19:16:23.075 - {} - Task \x1b[96m'{}'\x1b[0m finished with status \x1b[92m{}\x1b[0m\n"


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def make(word: str, made: dsl.Output[dsl.Dataset]):
    from pathlib import Path

    print(f"[make] writing {word} in {Path.cwd()}", flush=True)
    Path(made.path).write_text(word)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def judge(made: dsl.Input[dsl.Dataset], page: dsl.Output[dsl.Markdown]) -> str:
    from pathlib import Path

    Path(page.path).write_text("the reasons")
    return Path(made.path).read_text()


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def act(made: dsl.Input[dsl.Dataset]):
    print("[act] acting", flush=True)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def fail(how: str):
    import os
    import signal

    from audiocnn.audio import TooShort

    print("[fail] about to", flush=True)
    if how == "mendable":
        raise TooShort("clip 7 lasts 0.01 s; remove it\nclip 8 too")
    os.kill(os.getpid(), signal.SIGKILL)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def each(item: int):
    import time

    from audiocnn.audio import TooShort

    print(f"[each] item {item}", flush=True)
    if item == 0:
        raise TooShort("item 0 is too short")
    time.sleep(3)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def sleep(marker: str):
    import time
    from pathlib import Path

    try:
        print("[sleep] asleep", flush=True)
        time.sleep(120)
    except KeyboardInterrupt:
        print("[sleep] tidying up", flush=True)
        time.sleep(0.5)
        Path(marker).write_text("tidy")
        raise


@dsl.pipeline(name="gated")
def gated(word: str = "go"):
    made = make(word=word).set_display_name("Make something")
    verdict = judge(made=made.outputs["made"])
    with dsl.If(verdict.outputs["Output"] == "go"):
        act(made=made.outputs["made"])


@dsl.pipeline(name="failing")
def failing(how: str):
    made = make(word=how)
    failing = fail(how=how).after(made).set_display_name("Fail on purpose")
    failing.set_retry(num_retries=2, backoff_duration="60s")


@dsl.pipeline(name="sleeping")
def sleeping(marker: str):
    sleep(marker=marker)


@dsl.pipeline(name="dozing")
def dozing(markers: list):
    with dsl.ParallelFor(items=markers) as marker:
        sleep(marker=marker)


@dsl.pipeline(name="looping")
def looping(items: list):
    with dsl.ParallelFor(items=items) as item:
        each(item=item)


def compile_to(folder: Path) -> dict[str, Path]:
    """Each toy's compiled file by its name."""
    files = {}
    for graph in (gated, failing, looping, sleeping, dozing):
        files[graph.name] = folder / f"{graph.name}.yaml"
        Compiler().compile(graph, package_path=str(files[graph.name]))
    return files
