"""A client of the gateway, with retries."""

import re
from typing import Any

import requests
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_exception

from mlops.settings import is_loopback
from serving.torchserve.client import ServingError, connection_problem

KEY = "AUDIOCNN_KEY"  # environment variable with the key of a client
CONNECT_TIMEOUT = 3.0  # s
READ_TIMEOUT = 120.0  # s; the gateway gives TorchServe a minute (gateway.deadline_s)
PATIENCE = 180.0  # s for which a request is repeated; `audiocnn serve` restarts what hangs in less than a minute
PAUSE, MAX_PAUSE = 1.0, 60.0  # s between two attempts; Retry-After may ask for a longer one than PAUSE
TEMPORARY = (0, 429, 502, 503, 504)  # statuses: 0 is no answer; a proxy sends 502 and 504 while the gateway restarts


class GatewayError(ServingError):
    """The gateway does not respond, or refuses a request.

    Attributes:
        reason: that of the gateway's problem (RFC 9457), or "endpoint".
        pause: s after which the request may be repeated.
    """

    def __init__(self, message: str, status: int = 0, reason: str = "endpoint", pause: float = PAUSE) -> None:
        super().__init__(message, status)
        self.reason = reason
        self.pause = pause

    @property
    def temporary(self) -> bool:
        """Whether the same request may be answered later."""
        return self.status in TEMPORARY


class GatewayClient:
    """Client of one gateway. Its methods raise GatewayError.

    Args:
        url: its address, which may have a path.
        key: of this client; empty for none. It is not part of any message.
    """

    def __init__(self, url: str, key: str = "") -> None:
        if not re.fullmatch(r"[!-~]*", key):
            raise GatewayError(f"{KEY}: contains a space or a letter outside ASCII, which no key of a gateway does")
        self.url = url.rstrip("/")
        self._key = key
        self._session = requests.Session()
        self._session.trust_env = not is_loopback(self.url)  # a proxy cannot reach this machine
        self._session.auth = self._authorize  # otherwise requests may send a password of ~/.netrc instead
        self._patience = PATIENCE

    def check(self) -> None:
        """Check that the gateway answers now, and that it has a model which does."""
        self._request("GET", "/model")

    def classify(self, sound: bytes, **options: str) -> dict[str, Any]:
        """Return the answer to a sound file, with these options in the query.

        While the gateway is busy or away, the request is repeated for up to PATIENCE. If that was in vain, the next
        requests are sent once, until one is answered: the files of a folder would take hours.
        """
        retrying = Retrying(
            retry=retry_if_exception(lambda error: isinstance(error, GatewayError) and error.temporary),
            stop=stop_after_delay(self._patience),
            wait=wait_exception(lambda error: error.pause if isinstance(error, GatewayError) else PAUSE),
            reraise=True,
        )
        try:
            answer: dict[str, Any] = retrying(self._request, "POST", "/classify", params=options, data=sound)
        except GatewayError as error:
            self._patience = 0.0 if error.temporary else PATIENCE
            raise
        self._patience = PATIENCE
        return answer

    def _authorize(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._key:
            request.headers["Authorization"] = f"Bearer {self._key}"
        return request

    def _request(self, method: str, path: str, **content: Any) -> dict[str, Any]:
        """Send a request once, and return the JSON object of the answer."""
        timeouts = (CONNECT_TIMEOUT, READ_TIMEOUT)
        try:
            response = self._session.request(
                method, self.url + path, timeout=timeouts, allow_redirects=False, **content
            )
        except requests.ReadTimeout as error:
            raise GatewayError(f"the gateway at {self.url} did not answer within {READ_TIMEOUT:g} s") from error
        except requests.RequestException as error:
            start = "start it with `audiocnn serve`, or deploy a version with `audiocnn deploy`"
            other_protocol = isinstance(error, requests.exceptions.SSLError)
            remedy = start if is_loopback(self.url) and not other_protocol else "check the address"
            raise GatewayError(
                f"the gateway at {self.url} cannot be reached ({connection_problem(error)}): {remedy}; "
                "`audiocnn classify --local` works without it"
            ) from error
        try:
            body = response.json()
        except requests.JSONDecodeError:
            body = None
        if response.status_code == requests.codes.ok and isinstance(body, dict):
            return body
        raise self._refusal(response, body if isinstance(body, dict) else {})

    def _refusal(self, response: requests.Response, problem: dict[str, Any]) -> GatewayError:
        """Return the error of a response that is not an answer; `problem` is the JSON object in it."""
        status, asked = response.status_code, response.headers.get("Retry-After", "")
        pause = min(max(PAUSE, float(asked)), MAX_PAUSE) if asked.isdecimal() else PAUSE
        if status == requests.codes.unauthorized:
            sentence = f"the gateway needs a key: set the environment variable {KEY} to yours"
        elif status == requests.codes.forbidden:
            sentence = f"the gateway refuses the key in the environment variable {KEY}"
        elif "detail" in problem and "reason" in problem:
            sentence = str(problem["detail"])
        else:
            other = response.headers.get("Location", response.reason)
            sentence = f"this is not an answer of the gateway ({other}); check the address, and a proxy in between"
        reason = str(problem.get("reason", "endpoint"))
        return GatewayError(f"{self.url}: {sentence} (HTTP {status})", status, reason, pause)
