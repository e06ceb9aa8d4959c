"""Changes of a clip have the size that their description says, and leave its length."""

import io

import numpy as np
import pytest
import soundfile

from audiocnn import audio
from audiocnn.robustness import CHANGES, add_noise, add_room, change_level, compress, limit_band, shift

RATE = 22_050


def tone(hertz: float, seconds: float = 2.0) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


def power(waveform: np.ndarray) -> float:
    return float(np.mean(waveform.astype(np.float64) ** 2))


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("rate", [8000, 22_050, 44_100])
def test_every_change_changes_the_clip_and_repeats(name: str, rate: int) -> None:
    waveform = np.random.default_rng(3).normal(0, 0.1, rate).astype(np.float32)
    given = waveform.copy()
    changed = CHANGES[name](waveform, rate)
    assert changed.dtype == np.float32 and changed.shape == waveform.shape and np.isfinite(changed).all()
    np.testing.assert_array_equal(changed, CHANGES[name](waveform, rate))
    np.testing.assert_array_equal(waveform, given)
    assert np.array_equal(changed, waveform) == (name == "nothing above 8 kHz" and rate == 8000)


@pytest.mark.parametrize("snr_db", [20, 10, 0])
def test_noise_has_the_given_level(snr_db: float) -> None:
    clean = tone(440)
    noise = add_noise(clean, snr_db) - clean
    assert 10 * np.log10(power(clean) / power(noise)) == pytest.approx(snr_db, abs=0.2)


def test_level_band_and_time() -> None:
    assert 10 * np.log10(power(change_level(tone(440), -20)) / power(tone(440))) == pytest.approx(-20)
    assert power(limit_band(tone(9500), RATE)) < 1e-4 * power(tone(9500))
    assert power(limit_band(tone(6000), RATE)) == pytest.approx(power(tone(6000)), rel=0.02)
    late = shift(tone(440))
    assert not late[: len(late) // 10].any()
    np.testing.assert_array_equal(late[len(late) // 10 :], tone(440)[: len(late) - len(late) // 10])


def test_the_room_keeps_the_level_and_lasts_half_a_second() -> None:
    click = np.zeros(RATE, np.float32)
    click[0] = 0.5
    response = add_room(click, RATE)
    assert power(response) == pytest.approx(power(click))
    assert power(response[:1]) / power(response) / RATE == pytest.approx(0.5, rel=1e-3)  # as much direct as reverberant
    tenth = RATE // 10
    decay = 10 * np.log10(power(response[1:tenth]) / power(response[3 * tenth : 4 * tenth]))
    assert decay == pytest.approx(36, abs=3)  # 60 dB in 0.5 s
    assert not response[round(0.5 * RATE) :].any() or power(response[round(0.5 * RATE) :]) < 1e-12


def test_an_mp3_has_64_kbits_and_keeps_time_and_level() -> None:
    content = audio.encode_mp3(tone(1000, 10), RATE)
    assert len(content) * 8 / 10 / 1000 == pytest.approx(64, rel=0.03)
    assert soundfile.info(io.BytesIO(content)).format == "MP3"
    decoded = compress(tone(1000), RATE)
    assert np.corrcoef(decoded, tone(1000))[0, 1] > 0.99
