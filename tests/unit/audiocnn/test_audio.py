"""decode, check and fit against what people really upload: odd formats, cut files, forged headers, no sound at all."""

import io
import struct

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from audiocnn import audio
from audiocnn.config import SpectrogramSettings
from audiocnn.features import LogMel

RATE = 22_050
FRONT_END = SpectrogramSettings(rate=RATE, seconds=1.0, n_fft=1024, hop=512, n_mels=64, f_min=0.0, f_max=11_025.0)
NOISE = (np.random.default_rng(0).standard_normal((RATE, 1)) * 0.1).astype(np.float32)
FORMATS = [
    ("WAV", "PCM_U8", 2**-6),
    ("WAV", "PCM_16", 2**-14),
    ("WAV", "PCM_24", 2**-14),
    ("WAV", "PCM_32", 2**-14),
    ("WAV", "FLOAT", 0.0),
    ("WAV", "DOUBLE", 2**-20),
    ("WAVEX", "PCM_16", 2**-14),
    ("AIFF", "PCM_16", 2**-14),
    ("FLAC", "PCM_16", 2**-14),
    ("FLAC", "PCM_24", 2**-14),
]
LOSSY = [("WAV", "ULAW"), ("WAV", "IMA_ADPCM"), ("WAV", "MS_ADPCM"), ("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III")]


def encode(samples: np.ndarray, rate: int = RATE, kind: str = "WAV", subtype: str = "PCM_16", **options) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=kind, subtype=subtype, **options)
    return buffer.getvalue()


def wav_header(content: bytes, offset: int, layout: str, value: int) -> bytes:
    """`content` with one field of its 44-byte WAV header overwritten."""
    forged = bytearray(content)
    struct.pack_into(layout, forged, offset, value)
    return bytes(forged)


def flac_announcing(content: bytes, samples: int) -> bytes:
    """`content` with the 36-bit sample count of FLAC's STREAMINFO overwritten."""
    forged = bytearray(content)
    forged[21] = forged[21] & 0xF0 | samples >> 32
    forged[22:26] = struct.pack(">I", samples & 0xFFFFFFFF)
    return bytes(forged)


class TestDecode:
    @pytest.mark.parametrize(("kind", "subtype", "tolerance"), FORMATS)
    def test_gives_the_samples_that_were_written(self, kind, subtype, tolerance):
        sound = audio.decode(encode(NOISE, kind=kind, subtype=subtype))
        assert (sound.rate, sound.samples.shape, sound.samples.dtype) == (RATE, NOISE.shape, np.float32)
        np.testing.assert_allclose(sound.samples, NOISE, atol=tolerance)

    @pytest.mark.parametrize(("kind", "subtype"), LOSSY)
    def test_reads_compressed_formats(self, kind, subtype):
        tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)
        sound = audio.decode(encode(tone, kind=kind, subtype=subtype))
        assert sound.seconds == pytest.approx(1.0, abs=0.05)
        assert sound.peak == pytest.approx(0.3, abs=0.1)

    def test_keeps_every_channel(self):
        both = np.hstack([NOISE, -NOISE])
        np.testing.assert_allclose(audio.decode(encode(both)).samples, both, atol=2**-14)

    def test_reads_a_file_like_its_bytes(self, tmp_path):
        file = tmp_path / "clip.wav"
        file.write_bytes(encode(NOISE))
        np.testing.assert_array_equal(audio.decode(file).samples, audio.decode(file.read_bytes()).samples)

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
    def test_calls_what_is_no_audio_undecodable(self, content):
        with pytest.raises(audio.Undecodable):
            audio.decode(content)

    @pytest.mark.parametrize(
        ("kind", "subtype"), [("AU", "PCM_16"), ("W64", "PCM_16"), ("CAF", "PCM_16"), ("HTK", "PCM_16")]
    )
    def test_refuses_formats_in_which_a_cut_file_would_pass_unseen(self, kind, subtype):
        with pytest.raises(audio.Undecodable, match="WAV, AIFF, FLAC, Ogg and MP3"):
            audio.decode(encode(NOISE, kind=kind, subtype=subtype))

    # Named, since an Ogg stream's number is random and test workers must collect the same names.
    @pytest.mark.parametrize(
        "content",
        [b"", encode(NOISE[:0]), encode(NOISE[:0], kind="OGG", subtype="VORBIS")],
        ids=["no bytes", "WAV header", "Ogg header"],
    )
    def test_calls_what_holds_no_sample_empty(self, content):
        with pytest.raises(audio.Empty):
            audio.decode(content)

    @pytest.mark.parametrize(
        ("kind", "subtype"),
        [(kind, subtype) for kind, subtype, _ in FORMATS] + LOSSY,
    )
    @pytest.mark.parametrize("share", [0.6, 0.97])
    def test_notices_a_cut_file(self, kind, subtype, share):
        content = encode(NOISE, kind=kind, subtype=subtype)
        with pytest.raises(audio.Truncated):
            audio.decode(content[: int(share * len(content))])

    @pytest.mark.parametrize(("kind", "subtype"), [("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS")])
    def test_notices_a_cut_however_early_it_is(self, kind, subtype):
        content = encode(np.tile(NOISE, (2, 1)), rate=24_000, kind=kind, subtype=subtype)
        with pytest.raises(audio.Truncated):
            audio.decode(content[:600])

    def test_a_cut_flac_of_unknown_length_that_ends_within_a_frame_is_no_audio_that_can_be_decoded(self):
        content = flac_announcing(encode(NOISE, kind="FLAC"), 0)
        with pytest.raises(audio.Undecodable):
            audio.decode(content[: int(0.6 * len(content))])

    def test_notices_a_flac_stream_that_announces_more_than_it_holds(self):
        with pytest.raises(audio.Truncated, match=f"{RATE + 10} samples.*{RATE}"):
            audio.decode(flac_announcing(encode(NOISE, kind="FLAC"), RATE + 10))

    def test_takes_a_file_with_a_tag_behind_the_audio(self):
        assert len(audio.decode(encode(NOISE) + b"TAG" + bytes(125)).samples) == RATE

    def test_takes_streams_whose_encoder_could_not_know_the_length(self):
        flac = flac_announcing(encode(NOISE, kind="FLAC"), 0)
        wav = wav_header(encode(NOISE), 40, "<I", 0xFFFFFFFF)
        assert len(audio.decode(flac).samples) == len(audio.decode(wav).samples) == RATE

    def test_takes_an_mp3_whose_length_can_only_be_guessed(self):
        content = encode(
            np.tile(NOISE, (5, 1)), kind="MP3", subtype="MPEG_LAYER_III", bitrate_mode="CONSTANT", compression_level=0.0
        )
        assert b"Info" in content[:100]  # the encoder's own frame, which counts the others
        second_frame = content.index(content[:2], 2)
        bare = content[second_frame:]
        tagged = b"ID3\x03\0\0\0\0\x07\x76" + bytes(1014) + bare
        assert audio.decode(bare).seconds == pytest.approx(5, abs=0.1)
        assert audio.decode(tagged).seconds == pytest.approx(5, abs=0.1)

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30, -1e30])
    def test_refuses_numbers_that_are_no_loudness(self, value):
        samples = NOISE.copy()
        samples[100] = value
        with pytest.raises(audio.NotFinite):
            audio.decode(encode(samples, subtype="FLOAT"))

    def test_whatever_loudness_it_takes_has_a_finite_spectrogram(self):
        loudest = np.full((RATE, 1), audio.LOUDEST, np.float32)
        waveform = audio.load(encode(loudest, subtype="FLOAT"), FRONT_END)
        assert torch.isfinite(LogMel(FRONT_END)(torch.from_numpy(waveform))).all()

    @pytest.mark.parametrize(
        "forged",
        [
            wav_header(encode(NOISE), 24, "<I", 0),
            wav_header(encode(NOISE), 24, "<I", 0xFFFFFFFF),
            wav_header(encode(NOISE), 22, "<H", 0),
            wav_header(encode(NOISE), 22, "<H", 65_535),
            wav_header(encode(NOISE), 20, "<H", 85),
            wav_header(encode(NOISE), 40, "<I", 0x7FFFFFFF),
            flac_announcing(encode(NOISE, kind="FLAC"), 2**35),
        ],
        ids=["rate 0", "rate 2**32", "no channels", "65,535 channels", "other codec", "2 GiB", "2**35 samples"],
    )
    def test_refuses_a_forged_header(self, forged):
        with pytest.raises(audio.AudioError):
            audio.decode(forged)

    def test_refuses_hours_of_silence_in_a_small_file(self):
        hidden = encode(np.zeros(RATE * 120, np.int16), kind="FLAC")
        assert len(hidden) < 20_000
        with pytest.raises(audio.TooLong, match="at most 60 s"):
            audio.decode(hidden, max_seconds=60)

    def test_refuses_many_channels_where_the_length_is_bounded(self):
        with pytest.raises(audio.TooLong):
            audio.decode(encode(np.repeat(NOISE, 64, axis=1)), max_seconds=1.0)

    def test_takes_exactly_the_longest_that_is_allowed(self):
        assert audio.decode(encode(NOISE), max_seconds=1.0).seconds == 1.0

    @pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
    def test_prints_no_traceback_for_a_header_that_points_before_the_file(self):
        with pytest.raises(audio.Undecodable):
            audio.decode(encode(NOISE, kind="AIFF", subtype="FLOAT")[:60])

    def test_lets_the_file_system_speak_for_a_missing_file(self, tmp_path):
        with pytest.raises(FileNotFoundError):
            audio.decode(tmp_path / "none.wav")

    @settings(max_examples=150, deadline=None)
    @given(
        start=st.sampled_from([encode(NOISE[:2000], kind=kind, subtype=sub) for kind, sub, *_ in [*FORMATS, *LOSSY]]),
        edits=st.lists(st.tuples(st.integers(0, 300), st.integers(0, 255)), max_size=12),
        cut=st.floats(0, 1),
    )
    def test_gives_sound_samples_or_a_typed_error_for_any_bytes(self, start, edits, cut):
        content = bytearray(start[: int(cut * len(start))])
        for position, value in edits:
            if position < len(content):
                content[position] = value
        try:
            sound = audio.decode(bytes(content), max_seconds=10)
        except audio.AudioError:
            return
        assert np.isfinite(audio.fit(sound, RATE, 1.0)).all()


class TestCheck:
    def test_passes_a_sound(self):
        audio.check(audio.decode(encode(NOISE)), min_seconds=1.0)

    def test_refuses_a_clip_shorter_than_the_minimum(self):
        with pytest.raises(audio.TooShort, match=r"1\.000 s; at least 1\.1 s"):
            audio.check(audio.decode(encode(NOISE)), min_seconds=1.1)

    @pytest.mark.parametrize(("peak", "silent"), [(0.0, True), (2.0**-16, True), (2.0**-15, False)])
    def test_refuses_what_never_reaches_one_step(self, peak, silent):
        samples = np.zeros((RATE, 1), np.float32)
        samples[100] = peak
        sound = audio.decode(encode(samples, subtype="FLOAT"))
        if silent:
            with pytest.raises(audio.Silent):
                audio.check(sound, 0.1)
        else:
            audio.check(sound, 0.1)

    def test_refuses_channels_that_leave_the_network_nothing_to_hear(self):
        sound = audio.decode(encode(np.hstack([NOISE, -NOISE]), subtype="FLOAT"))
        assert sound.peak > 0.1
        with pytest.raises(audio.Silent, match="cancel"):
            audio.check(sound, 0.1)


class TestFit:
    @pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000, 96_000])
    def test_keeps_a_tone_where_it_is_at_any_rate(self, rate):
        tone = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(rate) / rate)
        fitted = audio.fit(audio.decode(encode(tone, rate)), RATE, 1.0)
        assert fitted.shape == (RATE,)
        spectrum = np.abs(np.fft.rfft(fitted))
        assert spectrum.argmax() == 1000
        assert fitted.std() == pytest.approx(0.5 / np.sqrt(2), rel=0.01)

    def test_removes_what_the_rate_cannot_carry(self):
        tone = 0.5 * np.sin(2 * np.pi * 15_000 * np.arange(44_100) / 44_100)
        fitted = audio.fit(audio.decode(encode(tone, 44_100)), RATE, 1.0)
        assert np.abs(fitted[1000:-1000]).max() < 1e-3

    def test_takes_the_mean_of_the_channels(self):
        both = np.hstack([NOISE, NOISE * 0.5])
        fitted = audio.fit(audio.decode(encode(both)), RATE, 1.0)
        np.testing.assert_allclose(fitted, 0.75 * NOISE[:, 0], atol=2**-14)

    def test_pads_at_the_end_with_silence(self):
        fitted = audio.fit(audio.decode(encode(NOISE[:1000])), RATE, 1.0)
        assert np.abs(fitted[:1000]).max() > 0.1
        assert not fitted[1000:].any()

    def test_cutting_before_resampling_leaves_the_same_sound(self):
        long = np.random.default_rng(1).standard_normal(3 * 44_100) * 0.1
        sound = audio.decode(encode(long, 44_100))
        np.testing.assert_allclose(audio.fit(sound, RATE, 1.0), audio.fit(sound, RATE, 3.0)[:RATE], atol=1e-6)

    @pytest.mark.parametrize("rate", [1, 100, 2**24, 2**31 - 1])
    def test_gives_finite_samples_for_an_absurd_rate(self, rate):
        sound = audio.decode(wav_header(encode(NOISE), 24, "<I", rate))
        fitted = audio.fit(sound, RATE, 1.0)
        assert fitted.shape == (RATE,)
        assert np.isfinite(fitted).all()


class TestSound:
    def test_counts_samples_at_full_scale(self):
        samples = np.zeros((1000, 1))
        samples[:250] = 1.0
        samples[250:300] = -1.0
        assert audio.decode(encode(samples)).clipped_share == pytest.approx(0.3)

    def test_a_loud_sound_below_full_scale_is_not_clipped(self):
        assert audio.decode(encode(np.full((1000, 1), 0.999))).clipped_share == 0.0
