"""The page in a real browser, with a real gateway and a real TorchServe behind it."""

import re
import subprocess
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from helpers.browser import OpenPage, check_accessibility, send, wait_for_maps
from helpers.served import Served
from helpers.torchserve import encode, noise
from playwright.sync_api import expect

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]

FORMATS = {"WAV": None, "FLAC": None, "OGG": "VORBIS", "MP3": None, "AIFF": None, "W64": None}
NOT_PLAYED = ("AIFF", "W64")  # by Chromium


@pytest.mark.parametrize("kind", FORMATS)
def test_a_file_of_each_format_is_explained(open_page: OpenPage, kind: str) -> None:
    page = open_page()
    send(page, encode(noise(2.0), kind=kind, subtype=FORMATS[kind]), f"sound.{kind.lower()}")
    wait_for_maps(page)
    expect(page.locator("#label")).not_to_be_empty()
    expect(page.locator("#predictions li")).to_have_count(5)
    expect(page.locator("#audio")).to_be_visible(visible=kind not in NOT_PLAYED)
    expect(page.get_by_text("Your browser cannot play this format.")).to_be_visible(visible=kind in NOT_PLAYED)
    expect(page.locator("#waveform canvas").first).to_be_attached()
    colors = page.evaluate(
        """() => {
          const canvas = document.querySelector('.picture canvas');
          const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
          return new Set(data).size;
        }"""
    )
    assert colors > 50  # a spectrogram, not an empty canvas


def test_an_example_by_keyboard(open_page: OpenPage) -> None:
    page = open_page()
    page.get_by_role("button", name="rain").focus()
    page.keyboard.press("Enter")
    wait_for_maps(page)
    page.get_by_role("button", name="Stage 2, block 3: open its feature maps").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#maps-dialog")).to_be_visible()
    expect(page.locator("#maps-dialog canvas")).to_have_count(8)
    page.keyboard.press("Escape")
    expect(page.locator("#maps-dialog")).to_be_hidden()


def test_response_to_another_class(open_page: OpenPage) -> None:
    page = open_page()
    send(page, encode(noise(2.0)))
    wait_for_maps(page)
    page.select_option("#class", "siren")
    expect(page.get_by_role("img", name="with the response of the network to siren")).to_be_visible()


def test_the_microphone(open_page: OpenPage) -> None:
    page = open_page()
    page.get_by_role("button", name="Record", exact=True).click()
    # At least 2 s: a busy machine may not look within the second in which it says 2.
    expect(page.locator("#recorded")).to_contain_text(re.compile(r"Recording: ([2-9]|\d\d) s"))
    page.get_by_role("button", name="Stop and classify").click()
    wait_for_maps(page)
    expect(page.locator("#sound-note")).to_contain_text("recording")
    expect(page.get_by_role("button", name="Record", exact=True)).to_be_visible()


def test_a_recording_of_eleven_minutes(open_page: OpenPage) -> None:
    page = open_page(viewport={"width": 390, "height": 900})
    send(page, encode(np.tile(noise(10.0, rate=16000), (66, 1)), rate=16000, kind="FLAC"), "long.flac")
    wait_for_maps(page)
    expect(page.locator("#sound-note")).to_contain_text("660.0 s")
    expect(page.locator("#events-part")).to_be_visible()
    page.locator("#class").select_option("rain")
    expect(page.get_by_role("img", name="to rain")).to_be_visible()
    page.get_by_role("spinbutton", name="From").fill("602.5")
    page.keyboard.press("Enter")
    expect(
        page.get_by_role("img", name="Spectrogram from 602.5 to 607.5 s, with the response of the network to rain")
    ).to_be_visible()
    boxes = [label.bounding_box() for label in page.locator(".horizontal .tick").all()]
    assert len(boxes) > 1
    assert all(box and after and box["x"] + box["width"] < after["x"] for box, after in pairwise(boxes))


def test_names_are_never_markup(open_page: OpenPage) -> None:
    page = open_page()
    name = "<img src=x onerror=document.title=1>.wav"
    send(page, encode(noise(1.0)), name)
    wait_for_maps(page)
    expect(page.locator("#history button")).to_have_text(name)
    assert page.locator("main img").count() == 0
    assert page.title() == "audiocnn: classify sounds"


def test_the_sounds_of_this_visit(open_page: OpenPage) -> None:
    page = open_page()
    for name in ("first.wav", "second.wav"):
        send(page, encode(noise(1.0)), name)
        wait_for_maps(page)
        expect(page.locator("#sound-note")).to_contain_text(name)
    page.get_by_role("button", name="first.wav").click()
    expect(page.locator("#sound-note")).to_contain_text("first.wav")


def test_the_curl_command_works(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page()
    name = "a sound's {b} file [1].wav"
    (tmp_path / name).write_bytes(encode(noise(1.0)))
    page.set_input_files("#file", tmp_path / name)
    wait_for_maps(page)
    command = page.locator("#curl").text_content()
    assert command is not None
    answer = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    label = page.locator("#predictions .name").first.text_content()
    assert f'"class":"{label}"' in answer.replace(" ", "")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_accessibility(open_page: OpenPage, theme: str, width: int) -> None:
    # axe adds style elements, which the policy of the page forbids.
    page = open_page(color_scheme=theme, viewport={"width": width, "height": 900}, bypass_csp=True)
    check_accessibility(page)
    page.get_by_role("button", name="18 s with three sounds").click()
    wait_for_maps(page)
    check_accessibility(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width  # nothing is cut off
    page.locator("#maps .block").first.click()
    check_accessibility(page)


def test_the_themes_can_be_changed(open_page: OpenPage) -> None:
    page = open_page(color_scheme="light")
    page.get_by_role("button", name="Dark colors").click()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(15, 19, 21)"
    page.reload()
    expect(page.get_by_role("button", name="Light colors")).to_be_visible()


def test_a_model_that_changes_while_the_page_is_open(open_page: OpenPage, served: Served) -> None:
    page = open_page()
    expect(page.locator("#model .version")).to_have_text("sounds version 1")
    send(page, encode(noise(1.0)))
    wait_for_maps(page)
    served.serve(2)
    send(page, encode(noise(1.0)))
    expect(page.locator("#model .version")).to_have_text("sounds version 2")
    expect(page.locator("#history tr").first).to_contain_text("version 2")
