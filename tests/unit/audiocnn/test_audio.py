"""decode(), checked_waveform() and to_waveform() on valid files, forged headers, and files that are not audio."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.audio import ENCODINGS, LOSSLESS, LOSSY, NOISE, RATE, encode, set_flac_length, set_wav_field
from hypothesis import given, settings
from hypothesis import strategies as st

from audiocnn import audio
from audiocnn.config import SpectrogramSettings
from audiocnn.errors import AudioError, Empty, NotFinite, Silent, TooLong, TooShort, Undecodable
from audiocnn.features import LogMel
from audiocnn.streams import MAX_ABS_SAMPLE

FRONT_END = SpectrogramSettings(rate=RATE, seconds=1.0, n_fft=1024, hop=512, n_mels=64, f_min=0.0, f_max=11_025.0)


class TestDecode:
    @pytest.mark.parametrize(("container", "subtype", "tolerance"), LOSSLESS)
    def test_lossless_formats_keep_the_samples(self, container: str, subtype: str, tolerance: float) -> None:
        sound = audio.decode(encode(NOISE, container=container, subtype=subtype))
        assert (sound.rate, sound.samples.shape, sound.samples.dtype) == (RATE, NOISE.shape, np.float32)
        np.testing.assert_allclose(sound.samples, NOISE, atol=tolerance)

    @pytest.mark.parametrize(("container", "subtype"), LOSSY)
    def test_lossy_formats_are_decoded(self, container: str, subtype: str) -> None:
        tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)
        sound = audio.decode(encode(tone, container=container, subtype=subtype))
        assert sound.seconds == pytest.approx(1.0, abs=0.05)
        assert sound.peak == pytest.approx(0.3, abs=0.1)

    def test_all_channels_are_kept(self) -> None:
        stereo = np.hstack([NOISE, -NOISE])
        np.testing.assert_allclose(audio.decode(encode(stereo)).samples, stereo, atol=2**-14)

    @pytest.mark.parametrize(("container", "subtype"), ENCODINGS)
    def test_a_path_and_its_content_give_equal_samples(self, container: str, subtype: str, tmp_path: Path) -> None:
        file = tmp_path / "clip"
        file.write_bytes(encode(NOISE, container=container, subtype=subtype))
        np.testing.assert_array_equal(audio.decode(file).samples, audio.decode(file.read_bytes()).samples)

    def test_a_pipe_is_read(self, tmp_path: Path) -> None:
        file = tmp_path / "pipe"
        os.mkfifo(file)
        content = encode(NOISE)
        with ThreadPoolExecutor(1) as pool:
            pool.submit(file.write_bytes, content)
            np.testing.assert_array_equal(audio.decode(file).samples, audio.decode(content).samples)

    @pytest.mark.parametrize(
        "content",
        [
            b"hello, world. " * 50,
            bytes(5000),
            b"RIFF",
            b"OggS",
            b"ID3",
            b"ID3\4\0\0\0\0",
            b"fLaC",
            b"\x89PNG\r\n\x1a\n",
        ],
        ids=["text", "zeros", "RIFF", "OggS", "ID3", "ID3 tag", "fLaC", "PNG"],
    )
    def test_content_other_than_audio_is_undecodable(self, content: bytes) -> None:
        with pytest.raises(Undecodable):
            audio.decode(content)

    @pytest.mark.parametrize("container", ["HTK", "VOC", "NIST"])
    def test_formats_without_truncation_check_are_refused(self, container: str) -> None:
        with pytest.raises(Undecodable, match="use WAV, AIFF, FLAC, Ogg or MP3"):
            audio.decode(encode(NOISE, container=container))

    # With explicit ids: the serial number of an Ogg stream is random, and pytest-xdist needs equal ids in all workers.
    @pytest.mark.parametrize(
        "content",
        [b"", encode(NOISE[:0]), encode(NOISE[:0], container="OGG", subtype="VORBIS")],
        ids=["no bytes", "WAV header", "Ogg header"],
    )
    def test_files_without_samples_are_empty(self, content: bytes) -> None:
        with pytest.raises(Empty):
            audio.decode(content)

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30, -1e30])
    def test_out_of_range_samples_are_refused(self, value: float) -> None:
        samples = NOISE.copy()
        samples[100] = value
        with pytest.raises(NotFinite, match="out-of-range samples"):
            audio.decode(encode(samples, subtype="FLOAT"))

    def test_the_loudest_accepted_sample_has_a_finite_spectrogram(self) -> None:
        loudest = np.full((RATE, 1), MAX_ABS_SAMPLE, np.float32)
        waveform = audio.load(encode(loudest, subtype="FLOAT"), FRONT_END)
        assert torch.isfinite(LogMel(FRONT_END)(torch.from_numpy(waveform))).all()

    @pytest.mark.parametrize(
        "forged",
        [
            set_wav_field(encode(NOISE), 24, "<I", 0),
            set_wav_field(encode(NOISE), 24, "<I", 0xFFFFFFFF),
            set_wav_field(encode(NOISE), 22, "<H", 0),
            set_wav_field(encode(NOISE), 22, "<H", 65_535),
            set_wav_field(encode(NOISE), 20, "<H", 85),
            set_wav_field(encode(NOISE), 40, "<I", 0x3FFFFFFF),
            set_flac_length(encode(NOISE, container="FLAC"), 2**35),
        ],
        ids=["rate 0", "rate 2**32", "no channels", "65,535 channels", "other codec", "1 GiB", "2**35 samples"],
    )
    def test_forged_headers_are_refused(self, forged: bytes) -> None:
        with pytest.raises(AudioError):
            audio.decode(forged)

    def test_long_audio_in_a_small_file_is_refused(self) -> None:
        content = encode(np.zeros(RATE * 120, np.int16), container="FLAC")
        assert len(content) < 20_000
        with pytest.raises(TooLong, match="the maximum is 60 s"):
            audio.decode(content, max_seconds=60)

    def test_the_maximum_duration_limits_the_channels_too(self) -> None:
        with pytest.raises(TooLong):
            audio.decode(encode(np.repeat(NOISE, 64, axis=1)), max_seconds=1.0)

    def test_a_clip_of_the_maximum_duration_is_accepted(self) -> None:
        assert audio.decode(encode(NOISE), max_seconds=1.0).seconds == 1.0

    @pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
    def test_a_seek_before_the_start_prints_no_traceback(self) -> None:
        with pytest.raises(Undecodable):
            audio.decode(encode(NOISE, container="AIFF", subtype="FLOAT")[:60])

    def test_a_missing_file_raises_file_not_found(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            audio.decode(tmp_path / "none.wav")

    @settings(max_examples=150)
    @given(
        original=st.sampled_from([encode(NOISE[:2000], container=kind, subtype=sub) for kind, sub in ENCODINGS]),
        edits=st.lists(st.tuples(st.integers(0, 300), st.integers(0, 255)), max_size=12),
        share=st.floats(0, 1),
    )
    def test_any_bytes_give_finite_samples_or_an_audio_error(
        self, original: bytes, edits: list[tuple[int, int]], share: float
    ) -> None:
        content = bytearray(original[: int(share * len(original))])
        for position, value in edits:
            if position < len(content):
                content[position] = value
        try:
            sound = audio.decode(bytes(content), max_seconds=10)
        except AudioError:
            return
        assert np.isfinite(audio.to_waveform(sound, FRONT_END)).all()


class TestCheck:
    def test_a_valid_clip_passes(self) -> None:
        assert audio.checked_waveform(audio.decode(encode(NOISE[:2205])), FRONT_END).shape == (RATE,)

    def test_a_clip_below_the_minimum_duration_is_refused(self) -> None:
        with pytest.raises(TooShort, match=r"lasts 0\.099 s; the minimum is 0\.1 s"):
            audio.checked_waveform(audio.decode(encode(NOISE[:2190])), FRONT_END)

    @pytest.mark.parametrize(("peak", "silent"), [(0.0, True), (2.0**-16, True), (2.0**-15, False)])
    def test_a_clip_below_one_16_bit_step_is_silent(self, peak: float, silent: bool) -> None:
        samples = np.zeros((RATE, 1), np.float32)
        samples[100] = peak
        sound = audio.decode(encode(samples, subtype="FLOAT"))
        if silent:
            with pytest.raises(Silent):
                audio.checked_waveform(sound, FRONT_END)
        else:
            audio.checked_waveform(sound, FRONT_END)

    def test_channels_that_cancel_out_are_silent(self) -> None:
        sound = audio.decode(encode(np.hstack([NOISE, -NOISE]), subtype="FLOAT"))
        assert sound.peak > 0.1
        with pytest.raises(Silent, match="cancel"):
            audio.checked_waveform(sound, FRONT_END)

    @pytest.mark.parametrize("rate", [RATE, 44_100])
    def test_sound_after_the_part_that_the_network_is_given_does_not_matter(self, rate: int) -> None:
        late = np.concatenate([np.zeros(rate + rate // 4), 0.1 * np.random.default_rng(0).standard_normal(rate)])
        with pytest.raises(Silent, match="the first 1 s of the clip, which the network is given, are silent"):
            audio.checked_waveform(audio.decode(encode(late, rate)), FRONT_END)
        assert audio.checked_waveform(audio.decode(encode(late[::-1], rate)), FRONT_END).any()


class TestFit:
    @pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000, 96_000])
    def test_resampling_keeps_pitch_and_level_of_a_tone(self, rate: int) -> None:
        tone = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(rate) / rate)
        waveform = audio.to_waveform(audio.decode(encode(tone, rate)), FRONT_END)
        assert waveform.shape == (RATE,)
        spectrum = np.abs(np.fft.rfft(waveform))
        assert spectrum.argmax() == 1000
        assert waveform.std() == pytest.approx(0.5 / np.sqrt(2), rel=0.01)

    def test_frequencies_above_nyquist_are_removed(self) -> None:
        tone = 0.5 * np.sin(2 * np.pi * 15_000 * np.arange(44_100) / 44_100)
        waveform = audio.to_waveform(audio.decode(encode(tone, 44_100)), FRONT_END)
        assert np.abs(waveform[1000:-1000]).max() < 1e-3

    def test_channels_are_averaged(self) -> None:
        stereo = np.hstack([NOISE, NOISE * 0.5])
        waveform = audio.to_waveform(audio.decode(encode(stereo)), FRONT_END)
        np.testing.assert_allclose(waveform, 0.75 * NOISE[:, 0], atol=2**-14)

    def test_short_clips_are_zero_padded_at_the_end(self) -> None:
        waveform = audio.to_waveform(audio.decode(encode(NOISE[:1000])), FRONT_END)
        assert np.abs(waveform[:1000]).max() > 0.1
        assert not waveform[1000:].any()

    def test_cutting_before_resampling_does_not_change_the_result(self) -> None:
        long = np.random.default_rng(1).standard_normal(3 * 44_100) * 0.1
        sound = audio.decode(encode(long, 44_100))
        np.testing.assert_allclose(
            audio.to_waveform(sound, FRONT_END),
            audio.to_waveform(sound, FRONT_END.replace(seconds=3.0))[:RATE],
            atol=1e-6,
        )

    @pytest.mark.parametrize("rate", [1, 100, 2**24, 2**31 - 1])
    def test_unusual_sample_rates_give_finite_samples(self, rate: int) -> None:
        sound = audio.decode(set_wav_field(encode(NOISE), 24, "<I", rate), max_seconds=1e5)
        waveform = audio.to_waveform(sound, FRONT_END)
        assert waveform.shape == (RATE,)
        assert np.isfinite(waveform).all()


class TestSound:
    def test_clipped_share_counts_samples_at_full_scale(self) -> None:
        samples = np.zeros((1000, 1))
        samples[:250] = 1.0
        samples[250:300] = -1.0
        assert audio.decode(encode(samples)).clipped_share == pytest.approx(0.3)

    def test_samples_just_below_full_scale_are_not_clipped(self) -> None:
        assert audio.decode(encode(np.full((1000, 1), 0.999))).clipped_share == 0.0
