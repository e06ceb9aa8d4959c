"""The page where something goes wrong: broken files, refused requests, answers that come too late."""

from collections.abc import Callable
from typing import Any

import pytest
from helpers.browser import OpenPage, send, wait_for_maps
from helpers.gateway import RunningGateway
from helpers.torchserve import encode, noise
from playwright.sync_api import Page, Route, expect

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]

FAILURE = {"status": 503, "json": {"detail": "the model is being loaded"}}


def choose(page: Page, example: str) -> None:
    page.get_by_role("button", name=example, exact=True).click()


def answer_with(page: Page, path: str, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the answers of a path."""

    def change_answer(route: Route) -> None:
        answer = route.fetch().json()
        change(answer)
        route.fulfill(json=answer)

    page.route(path, change_answer)


def drop(page: Page, *names: str) -> None:
    page.evaluate(
        """names => {
          const dataTransfer = new DataTransfer();
          for (const name of names) dataTransfer.items.add(new File(['not audio'], name));
          document.dispatchEvent(new DragEvent('drop', { dataTransfer, cancelable: true }));
        }""",
        names,
    )


def test_a_broken_file_is_refused_in_words(open_page: OpenPage) -> None:
    page = open_page()
    send(page, b"not audio at all", "broken.wav")
    expect(page.get_by_role("alert")).to_contain_text("cannot be decoded as audio")
    expect(page.get_by_role("alert")).to_contain_text("use WAV, AIFF, FLAC, Ogg or MP3.")
    expect(page.locator("#result")).to_be_hidden()


def test_dropped_files(open_page: OpenPage) -> None:
    page = open_page()
    drop(page, "first.wav", "second.wav")
    expect(page.get_by_role("alert")).to_contain_text("2 files were dropped, and none was sent. Drop one at a time")
    drop(page, "first.wav")
    expect(page.get_by_role("alert")).to_contain_text("first.wav: The file cannot be decoded")


def test_a_refused_microphone(open_page: OpenPage) -> None:
    page = open_page()
    page.evaluate(
        "() => { navigator.mediaDevices.getUserMedia = async () => { throw new DOMException('', 'NotAllowedError'); } }"
    )
    choose(page, "Record")
    expect(page.get_by_role("alert")).to_contain_text("The microphone is blocked. Allow it")
    expect(page.get_by_role("button", name="Record", exact=True)).to_be_focused()


def test_an_endpoint_that_does_not_answer(open_page: OpenPage) -> None:
    page = open_page()
    page.context.set_offline(True)
    send(page, encode(noise(1.0)))
    expect(page.get_by_role("alert")).to_contain_text("The endpoint does not answer")
    page.context.set_offline(False)
    choose(page, "Try again")
    wait_for_maps(page)


def test_an_explanation_that_fails(open_page: OpenPage) -> None:
    page = open_page()
    choose(page, "siren")
    wait_for_maps(page)
    page.route("**/explain*", lambda route: route.fulfill(**FAILURE))
    choose(page, "rain")
    expect(page.get_by_role("alert")).to_contain_text("The model is being loaded. Try again in a moment.")
    expect(page.locator("#predictions li")).to_have_count(5)
    expect(page.locator("#sound-note")).to_contain_text("rain.ogg")
    expect(page.locator(".picture")).to_have_count(0)  # nothing of the sound before is left
    expect(page.locator("#maps-part")).to_be_hidden()
    page.unroute("**/explain*")
    choose(page, "Show the spectrogram")
    wait_for_maps(page)


def test_a_class_whose_response_fails(open_page: OpenPage) -> None:
    page = open_page()
    choose(page, "rain")
    wait_for_maps(page)
    shown = page.locator("#class").input_value()
    page.route("**/explain*", lambda route: route.fulfill(**FAILURE))
    page.select_option("#class", "clock" if shown != "clock" else "dog")
    expect(page.get_by_role("alert")).to_be_visible()
    expect(page.locator("#class")).to_have_value(shown)  # the class of the overlay that is still shown


def test_an_older_answer_never_replaces_a_newer_one(open_page: OpenPage) -> None:
    page = open_page()
    late: list[Route] = []
    page.route("**/rain.ogg", lambda route: late.append(route))
    choose(page, "rain")
    choose(page, "siren")
    wait_for_maps(page)
    with page.expect_event("requestfinished"):
        late[0].continue_()
    page.wait_for_timeout(300)  # in which it could be classified
    expect(page.locator("#sound-note")).to_contain_text("siren.ogg")
    expect(page.locator("#history tr")).to_have_count(1)
    expect(page.locator("#progress")).to_be_hidden()


def test_a_request_that_is_cancelled(open_page: OpenPage) -> None:
    page = open_page()
    choose(page, "siren")
    wait_for_maps(page)
    page.route("**/classify*", lambda route: None)  # no answer
    choose(page, "rain")
    expect(page.get_by_text("Classifying rain.ogg")).to_be_visible()
    expect(page.locator("#result")).to_have_attribute("inert", "")  # nothing there can end the request
    choose(page, "Cancel")
    expect(page.locator("#progress")).to_be_hidden()
    expect(page.locator("#result")).not_to_have_attribute("inert", "")
    expect(page.locator("#sound-note")).to_contain_text("siren.ogg")


def test_an_unknown_sound(open_page: OpenPage) -> None:
    page = open_page()
    answer_with(page, "**/classify*", lambda answer: answer.update(label="unknown", calibrated=True))
    choose(page, "rain")
    wait_for_maps(page)
    expect(page.locator("#label")).to_have_text("unknown")
    expect(page.locator("#remark")).to_have_text("No class is probable enough. The nearest are:")
    expect(page.locator("#history tr")).to_contain_text("unknown")
    expect(page.locator("#history tr")).not_to_contain_text("%")  # the probability is that of a class


def test_an_explanation_by_another_version(open_page: OpenPage) -> None:
    page = open_page()
    answer_with(page, "**/explain*", lambda answer: answer["model"].update(version="9"))
    choose(page, "rain")
    wait_for_maps(page)
    expect(page.locator("#spectrogram-note")).to_contain_text("This is the response of version 9; the prediction is of")


def test_a_key_is_asked_for_and_kept_for_the_tab(open_page: OpenPage, running_with_key: RunningGateway) -> None:
    page = open_page(running_with_key.url)
    send(page, encode(noise(1.0)))
    for key in ("expired-key", "secret-key-of-a-client"):
        expect(page.locator("#key-dialog")).to_be_visible()
        page.get_by_label("Key", exact=True).fill(key)
        page.get_by_role("button", name="Use the key").click()
    wait_for_maps(page)
    assert page.evaluate("[Object.values(sessionStorage), localStorage.length]") == [["secret-key-of-a-client"], 0]


def test_without_a_key_the_reason_is_shown(open_page: OpenPage, running_with_key: RunningGateway) -> None:
    page = open_page(running_with_key.url)
    send(page, encode(noise(1.0)))
    page.locator("#key-cancel").click()
    expect(page.get_by_role("alert")).to_contain_text("key")


def test_a_key_that_expires(open_page: OpenPage, running_with_key: RunningGateway) -> None:
    page = open_page(running_with_key.url)
    page.evaluate("sessionStorage.setItem('audiocnn.key', 'secret-key-of-a-client')")
    send(page, encode(noise(1.0)))
    wait_for_maps(page)
    page.evaluate("sessionStorage.setItem('audiocnn.key', 'expired-key')")
    page.select_option("#class", "clock")
    page.select_option("#class", "dog")
    expect(page.locator("#key-dialog")).to_be_visible()
    page.keyboard.press("Escape")
    choose(page, "Try again")
    page.get_by_label("Key", exact=True).fill("secret-key-of-a-client")
    page.keyboard.press("Enter")
    expect(page.get_by_role("img", name="to dog")).to_be_visible()
