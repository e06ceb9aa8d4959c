"""The process in which kfp.local runs a compiled pipeline; `pipeline.run` starts it and reads its output.

Reads one JSON object, a line, from stdin: pipeline (a compiled file), arguments, root, scratch (a folder that may be
lost), and container (settings of one, or null for plain processes). Who closes stdin, or dies, ends the run.
"""

import builtins
import json
import logging
import os
import shlex
import shutil
import signal
import sys
import textwrap
import threading
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import psutil

GRACE_SECONDS = 20  # for a step to clean up after Ctrl-C: TorchServe takes several to stop
LOOK_SECONDS = 0.1


def main() -> None:
    """Run the pipeline; every line of every step goes to stdout."""
    request = json.loads(sys.stdin.readline())
    # Who was started in the background ignores Ctrl-C, and so would every step: it is how we tell them to end.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    over = threading.Event()
    threading.Thread(target=_stop_with_parent, args=(_stdin(), over), daemon=True).start()
    try:
        _run(request, over)
    finally:
        shutil.rmtree(request["scratch"], ignore_errors=True)  # a parent that was killed cannot


def _run(request: Mapping[str, Any], over: threading.Event) -> None:
    # What KFP warns of (images and display names mean nothing locally) is meant to be so.
    warnings.filterwarnings("ignore", module="kfp")
    from kfp import local
    from kfp.components import load_component_from_file

    _keep_logs_of_threads_apart()
    _begin_nothing_once(over)
    runner = _processes(request["scratch"]) if request["container"] is None else _containers(request["container"])
    local.init(runner=runner, pipeline_root=request["root"], raise_on_error=True)
    pipeline = load_component_from_file(request["pipeline"])
    _never_retry(pipeline.component_spec.implementation.graph)
    pipeline(**request["arguments"])


def _stdin() -> int:
    """The pipe from the parent, taken from under the steps: they find an empty stdin."""
    pipe = os.dup(0)
    with Path(os.devnull).open() as nothing:
        os.dup2(nothing.fileno(), 0)
    return pipe


def _stop_with_parent(pipe: int, over: threading.Event) -> None:
    """Wait until the parent is gone or wants the end; then begin nothing more, and end what runs."""
    while os.read(pipe, 1):
        pass
    over.set()
    told: set[psutil.Process] = set()
    until = time.monotonic() + GRACE_SECONDS
    while time.monotonic() < until:  # a step may have been on the point of starting
        for step in set(psutil.Process().children()) - told:
            told.add(step)
            _interrupt(step)
        time.sleep(LOOK_SECONDS)
    os.killpg(os.getpid(), signal.SIGKILL)


def _interrupt(step: psutil.Process) -> None:
    """Send Ctrl-C to a step's processes, once: a second one would cut off its tidying up.

    Servers that it has detached into a session of their own are left to the step.
    """
    with suppress(psutil.NoSuchProcess):
        for process in (*step.children(recursive=True), step):
            with suppress(ProcessLookupError, psutil.NoSuchProcess):
                if os.getpgid(process.pid) == os.getpid():
                    process.send_signal(signal.SIGINT)


def _never_retry(spec: Any) -> None:
    """Retries are for clusters, whose nodes go away; here somebody waits, and the same error would come three times."""
    for dag in (spec.root.dag, *(component.dag for component in spec.components.values())):
        for task in dag.tasks.values():
            task.ClearField("retry_policy")


def _begin_nothing_once(over: threading.Event) -> None:
    """Mend KFP's loops: after a failure they went on to run every item that still waited, for nothing.

    The thread whose step fails says so before it can take the next item.
    """
    from kfp.local import task_dispatcher
    from kfp.local.status import Status

    run = task_dispatcher.run_single_task_implementation

    def run_unless_over(**task: Any) -> tuple[dict[str, Any], Status]:
        if over.is_set():
            return {}, Status.FAILURE
        try:
            outputs, status = run(**task)
        except BaseException:
            over.set()
            raise
        if status == Status.FAILURE:
            over.set()
        return outputs, status

    task_dispatcher.run_single_task_implementation = run_unless_over


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


def _processes(scratch: str) -> Any:
    """KFP's runner of plain processes, mended twice.

    It replaces `python3` in the arguments too, for example within paths; and each step's code stays in /tmp for ever.
    """
    from kfp import local
    from kfp.local import subprocess_task_handler

    def replace(command: list[str], python: str) -> list[str]:
        head, program, *rest = command[:3], *command[3:]
        ours = {"python3": python, "mktemp -d": f"mktemp -d {shlex.quote(scratch)}/XXXXXXXX"}
        for old, new in ours.items():
            head = [part.replace(old, new) for part in head]
        return [*head, program, *rest]

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
