"""A real TorchServe and a real gateway, and pages of theirs in Debian's chromium."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.browser import OpenPage
from helpers.gateway import RunningGateway, gateway
from helpers.served import NAME, Served
from helpers.torchserve import encode, noise
from playwright.sync_api import Browser, Page, expect, sync_playwright

from serving.torchserve import server as torchserve


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    served = Served(tmp_path_factory.mktemp("torchserve"))
    torchserve.start(served.settings)
    try:
        served.serve(1)
        yield served
    finally:
        torchserve.stop(Path(served.settings.state))


@pytest.fixture(scope="session")
def running(served: Served) -> Iterator[RunningGateway]:
    with gateway(served.folder, served.settings, NAME) as running:
        yield running


@pytest.fixture(scope="session")
def running_with_key(served: Served) -> Iterator[RunningGateway]:
    """A gateway that wants the key `secret-key-of-a-client`."""
    with gateway(served.folder, served.settings, NAME, keys="client:secret-key-of-a-client") as running:
        yield running


@pytest.fixture(scope="module")  # until then playwright has an event loop, beside which asyncio.run() fails
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed: apt-get install chromium")
    recording = tmp_path_factory.mktemp("microphone") / "noise.wav"
    recording.write_bytes(encode(noise(10.0)))
    microphone = ["--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]
    arguments = ["--no-sandbox", *microphone, f"--use-file-for-fake-audio-capture={recording}"]
    expect.set_options(timeout=30_000)  # ms, as long as playwright waits for actions; 5 s is too short on a busy one
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Browser, request: pytest.FixtureRequest) -> Iterator[OpenPage]:
    """Return a function that opens the page. At the end of the test, errors in its console fail the test."""
    contexts, errors = [], []

    def open_(url: str | None = None, **options: Any) -> Page:
        context = browser.new_context(permissions=["microphone", "clipboard-read", "clipboard-write"], **options)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if "Content Security" in message.text else None)
        page.goto(url or request.getfixturevalue("running").url)
        expect(page.locator("#model .version")).to_be_visible()
        return page

    yield open_
    for context in contexts:
        context.close()
    assert errors == []
