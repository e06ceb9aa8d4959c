"""The process in which kfp.local runs a compiled pipeline; `pipeline.run` starts it and reads its output.

Reads one JSON object from stdin: pipeline (a compiled file), arguments, root, and container (settings of one,
or null for plain processes).
"""

import builtins
import json
import logging
import os
import signal
import sys
import textwrap
import threading
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent import futures
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import psutil

ORPHAN_SECONDS = 1.0


def main() -> None:
    """Run the pipeline; every line of every step goes to stdout."""
    request = json.load(sys.stdin)
    # Who was started in the background ignores Ctrl-C, and so would every step: it is how we tell them to end.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=_stop_with_parent, args=(os.getppid(),), daemon=True).start()
    # What KFP warns of (images and display names mean nothing locally) is meant to be so.
    warnings.filterwarnings("ignore", module="kfp")
    from kfp import local
    from kfp.components import load_component_from_file

    _keep_logs_of_threads_apart()
    _begin_nothing_after_a_failure()
    runner = _processes() if request["container"] is None else _containers(request["container"])
    local.init(runner=runner, pipeline_root=request["root"], raise_on_error=True)
    pipeline = load_component_from_file(request["pipeline"])
    _never_retry(pipeline.component_spec.implementation.graph)
    pipeline(**request["arguments"])


def interrupt_steps(worker: int) -> None:
    """Send Ctrl-C to the steps of a worker, not to the worker: it goes on reading what they say while they clean up.

    Servers that a step has detached into a session of their own are left to the step.
    """
    try:
        children = psutil.Process(worker).children(recursive=True)
    except psutil.NoSuchProcess:
        return
    for child in children:
        try:
            if os.getpgid(child.pid) == worker:
                child.send_signal(signal.SIGINT)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue


def _stop_with_parent(parent: int) -> None:
    """A parent that was killed cannot stop its worker: notice that it is gone."""
    while os.getppid() == parent:
        time.sleep(ORPHAN_SECONDS)
    interrupt_steps(os.getpid())


def _never_retry(spec: Any) -> None:
    """Retries are for clusters, whose nodes go away; here somebody waits, and the same error would come three times."""
    for dag in (spec.root.dag, *(component.dag for component in spec.components.values())):
        for task in dag.tasks.values():
            task.ClearField("retry_policy")


def _begin_nothing_after_a_failure() -> None:
    """Mend KFP's loops: after a failure they went on to run every item that still waited, for nothing."""
    from kfp.local.orchestrator import enhanced_dag_orchestrator

    class Executor(futures.ThreadPoolExecutor):
        def shutdown(self, wait: bool = True, *, cancel_futures: bool = True) -> None:
            super().shutdown(wait, cancel_futures=cancel_futures)

    loops = SimpleNamespace(ThreadPoolExecutor=Executor, as_completed=futures.as_completed)
    enhanced_dag_orchestrator.concurrent = SimpleNamespace(futures=loops)


def _keep_logs_of_threads_apart() -> None:
    """Mend KFP's logs: a loop runs on threads, and each swaps the process's one logger and `print` under the others.

    Lines got lost, the end of a task among them. Here both are set once, and each thread has an indent of its own.
    """
    from kfp.local import logging_utils

    handler = logging.StreamHandler(sys.stdout)
    form = "%(asctime)s - %(levelname)s - %(message)s"
    handler.setFormatter(logging_utils.MillisecondFormatter(form, "%H:%M:%S.%f"))
    logging.basicConfig(handlers=[handler], level=logging.INFO)
    here, plain = threading.local(), print

    @contextmanager
    def indented(spaces: int = 4) -> Iterator[None]:
        here.indent = " " * spaces
        try:
            yield
        finally:
            here.indent = ""

    def indenting(*parts: Any, **options: Any) -> None:
        plain(textwrap.indent(options.get("sep", " ").join(map(str, parts)), getattr(here, "indent", "")), **options)

    logging_utils.local_logger_context = nullcontext
    logging_utils.indented_print = indented
    builtins.print = indenting


def _processes() -> Any:
    """KFP's runner of plain processes, mended: it replaces `python3` in the arguments too, for example within paths."""
    from kfp import local
    from kfp.local import subprocess_task_handler

    def replace(command: list[str], python: str) -> list[str]:
        head, program, *rest = command[:3], *command[3:]
        return [*(part.replace("python3", python) for part in head), program, *rest]

    subprocess_task_handler.replace_python_executable = replace
    return local.SubprocessRunner(use_venv=False)


def _containers(settings: Mapping[str, Any]) -> Any:
    """KFP's runner of containers, mended: see `run_container`."""
    from kfp import local
    from kfp.local import docker_task_handler

    import docker

    docker_task_handler.run_docker_container = run_container
    options = dict(settings)
    mounts = [
        docker.types.Mount(path, path, type="bind", read_only=not writable) for path, writable in options.pop("mounts")
    ]
    return local.DockerRunner(mounts=mounts, **options)


def run_container(client: Any, image: str, command: Sequence[str], volumes: Mapping[str, Any], **options: Any) -> int:
    """Run a step's container to its end and return its exit status.

    KFP's own function lets the engine remove the container when it ends, and so loses the status and the last lines
    of quick steps, which it then takes for success.
    """
    container = client.containers.create(image=image, command=list(command), volumes=dict(volumes), **options)
    try:
        container.start()
        for line in lines(container.logs(stream=True, follow=True)):
            print(line, end="", flush=True)
        return int(container.wait()["StatusCode"])
    finally:
        container.remove(force=True)


def lines(pieces: Iterable[bytes]) -> Iterator[str]:
    """Whole lines of what an engine sends cut anywhere: KFP indents what is printed at once, not what is a line."""
    rest = b""
    for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n")
        yield from (line.decode(errors="replace") + "\n" for line in whole)
    if rest:
        yield rest.decode(errors="replace") + "\n"


if __name__ == "__main__":
    main()
