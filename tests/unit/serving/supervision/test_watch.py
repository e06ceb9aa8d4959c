"""When a server is restarted, with a clock that the test moves."""

import pytest
from filelock import Timeout

from serving.supervision.servers import PROBE_TIMEOUT, Recovering
from serving.supervision.supervisor import MAX_PAUSE, MIN_TIMEOUT, RECOVERY, STABLE, UNANSWERED, Watch
from serving.torchserve.client import ServingError


class FakeServer:
    """A server that runs, answers or starts as a test wants it."""

    name = "server"

    def __init__(self) -> None:
        self.now = 0.0
        self.runs = self.answers = True
        self.is_waited_for = False  # an error comes after the time that the server has for a response
        self.starts: list[float] = []
        self.ask_error: Exception = ServingError("the worker hangs")
        self.start_error: Exception | None = None

    def is_running(self) -> bool:
        return self.runs

    def ask(self, timeout: float) -> None:
        if not self.answers:
            self.now += min(PROBE_TIMEOUT, timeout) if self.is_waited_for else 0.0
            raise self.ask_error

    def restart(self) -> None:
        if self.start_error is not None:
            raise self.start_error
        self.starts.append(self.now)
        self.runs = self.answers = True


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


@pytest.fixture
def watch(server: FakeServer) -> Watch:
    return Watch(server, lambda: server.now)


def let_pass(watch: Watch, server: FakeServer, seconds: int) -> None:
    for _ in range(seconds):
        server.now += 1
        watch.check()


def test_a_server_that_answers_is_left_alone(watch: Watch, server: FakeServer) -> None:
    let_pass(watch, server, 500)
    assert server.starts == []


def test_a_server_that_ended_is_started_at_once(watch: Watch, server: FakeServer) -> None:
    server.runs = False
    watch.check()
    assert server.starts == [0.0]


def test_a_server_that_hangs_is_restarted_and_a_slow_one_is_not(watch: Watch, server: FakeServer) -> None:
    for _ in range(5):
        server.answers = False
        let_pass(watch, server, int(UNANSWERED))
        server.answers = True
        let_pass(watch, server, 1)
    assert server.starts == []
    server.answers = False
    let_pass(watch, server, int(UNANSWERED) + 1)
    assert len(server.starts) == 1


def test_waiting_for_responses_does_not_delay_the_restart(watch: Watch, server: FakeServer) -> None:
    server.answers, server.is_waited_for = False, True
    while not server.starts:
        let_pass(watch, server, 1)
    assert UNANSWERED <= server.starts[0] <= UNANSWERED + MIN_TIMEOUT + 1


def test_torchserve_is_given_time_to_restart_a_worker(watch: Watch, server: FakeServer) -> None:
    server.answers, server.ask_error = False, Recovering("a worker starts")
    let_pass(watch, server, int(RECOVERY))
    assert server.starts == []
    let_pass(watch, server, 1)
    assert len(server.starts) == 1


def test_torchserve_that_hangs_while_its_worker_starts_is_restarted(watch: Watch, server: FakeServer) -> None:
    server.answers, server.ask_error = False, Recovering("a worker starts")
    let_pass(watch, server, 60)
    server.ask_error = ServingError("no response")
    let_pass(watch, server, int(UNANSWERED))
    assert server.starts == []
    let_pass(watch, server, 1)
    assert len(server.starts) == 1


def test_starts_that_fail_become_rare_and_say_why(
    watch: Watch, server: FakeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.runs, server.start_error = False, ServingError("port 8080 is in use")
    let_pass(watch, server, 600)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6 + (600 - 32) // int(MAX_PAUSE)  # after 0, 1, 2, 4, 8, 16, 32 s, then every minute
    assert lines[1] == (
        "[serve] server was not running; the start failed: port 8080 is in use; the next start not before 2 s"
    )


def test_a_server_that_ends_after_each_start_is_started_more_slowly(watch: Watch, server: FakeServer) -> None:
    for _ in range(300):
        server.runs = False
        let_pass(watch, server, 1)
    assert len(server.starts) < 12
    server.runs = True
    let_pass(watch, server, int(STABLE) + 5)
    server.runs = False
    watch.check()
    assert server.starts[-1] == server.now, "after a quiet time, the next failure is a new one"


def test_a_deploy_that_is_under_way_is_not_disturbed(
    watch: Watch, server: FakeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.runs, server.start_error = False, Timeout("deploy.lock")
    let_pass(watch, server, 30)
    assert capsys.readouterr().out == ""
    server.start_error = None
    watch.check()
    assert server.starts == [server.now]
