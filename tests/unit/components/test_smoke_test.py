"""When the smoke test of a deployment refuses a served version."""

import time
from typing import Any

import pytest
from helpers.torchserve import INDEX

from components.deploy.smoke_test import LATENCY_REQUESTS, SmokeTest, SmokeTestError


class Served:
    """A TorchServe with chosen answers: the part that the test has to break."""

    inference = "http://127.0.0.1:1"

    def __init__(self, answer: dict[str, float], version: int = INDEX.version, seconds: tuple[float, ...] = ()) -> None:
        self.answer, self.version, self.seconds = answer, version, list(seconds)

    def predict(self, content: bytes, name: str, version: str) -> dict[str, Any]:
        time.sleep(self.seconds.pop(0) if self.seconds else 0)
        predictions = [{"class": name, "probability": value} for name, value in self.answer.items()]
        return {"predictions": predictions, "model": {"name": name, "version": self.version}}


def run(served: Served, max_latency_ms: float = 1000.0, expected: dict[str, float] | None = None) -> dict[str, Any]:
    expected = expected or {"dog": 0.7, "rain": 0.2, "sea": 0.1}
    return SmokeTest("a.wav", b"", expected, 1e-4, max_latency_ms).run(served, INDEX)  # type: ignore[arg-type]


def test_the_same_answer_passes() -> None:
    result = run(Served({"dog": 0.70005, "rain": 0.19995}))
    assert (result["clip"], result["class"]) == ("a.wav", "dog")
    assert result["max_difference"] == pytest.approx(5e-5)


@pytest.mark.parametrize(
    ("served", "message"),
    [
        (Served({"dog": 0.7002, "rain": 0.2}), "the served probabilities differ from the model's by 0.0002 on a.wav"),
        (Served({"cat": 0.7, "rain": 0.2}), "differ from the model's by inf"),
        (Served({"dog": float("nan")}), "differ from the model's by nan"),
        (Served({"dog": 0.7}, version=2), "version 2 answers instead"),
    ],
)
def test_another_answer_is_refused(served: Served, message: str) -> None:
    with pytest.raises(SmokeTestError, match=message):
        run(served)


def test_another_class_within_the_tolerance_is_refused() -> None:
    expected = {"dog": 0.50003, "rain": 0.49997}
    with pytest.raises(SmokeTestError, match=r"the served answer to a\.wav is rain, the model's dog"):
        run(Served({"rain": 0.50002, "dog": 0.49998}), expected=expected)


def test_a_slow_version_is_refused() -> None:
    slow = (0.0,) + (0.03,) * LATENCY_REQUESTS
    with pytest.raises(SmokeTestError, match=r"more than deploy\.max_latency_ms=20; use a smaller model"):
        run(Served({"dog": 0.7}, seconds=slow), max_latency_ms=20.0)


def test_the_first_answer_and_one_pause_do_not_count() -> None:
    seconds = (0.5, 0.5) + (0.0,) * (LATENCY_REQUESTS - 1)
    assert run(Served({"dog": 0.7}, seconds=seconds), max_latency_ms=100.0)["latency_ms"] < 100
