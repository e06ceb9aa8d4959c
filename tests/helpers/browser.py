"""Helpers for tests of the page: send a sound, wait for its explanation, check the accessibility."""

from collections.abc import Callable

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

OpenPage = Callable[..., Page]  # the fixture `open_page`
BLOCKS = 17  # the stem and 16 residual blocks


def send(page: Page, content: bytes, name: str = "sound.wav") -> None:
    """Choose a file."""
    page.set_input_files("#file", {"name": name, "mimeType": "audio/wav", "buffer": content})


def wait_for_maps(page: Page) -> None:
    """Wait for the explanation of the latest sound; fail at an error on the page."""
    expect(page.locator("#maps .block").or_(page.locator("#error:visible"))).not_to_have_count(0, timeout=60_000)
    expect(page.locator("#error")).to_be_hidden()
    expect(page.locator("#maps-part")).to_have_attribute("aria-busy", "false")
    expect(page.locator("#maps .block")).to_have_count(BLOCKS)


def check_accessibility(page: Page) -> None:
    """Fail on violations of the rules of axe."""
    violations = Axe().run(page).response["violations"]
    assert [(item["id"], item["nodes"][0]["html"]) for item in violations] == []
