"""Truncated files are detected in every supported format, and complete files of unknown length are accepted."""

import numpy as np
import pytest
from helpers.audio import ENCODINGS, NOISE, RATE, encode, set_flac_length, set_wav_field

from audiocnn import audio


@pytest.mark.parametrize(("container", "subtype"), ENCODINGS)
@pytest.mark.parametrize("share", [0.6, 0.97])
def test_truncated_files_are_detected(container: str, subtype: str, share: float) -> None:
    content = encode(NOISE, container=container, subtype=subtype)
    with pytest.raises(audio.Truncated):
        audio.decode(content[: int(share * len(content))])


@pytest.mark.parametrize(("container", "subtype"), [("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS")])
def test_files_truncated_after_600_bytes_are_detected(container: str, subtype: str) -> None:
    content = encode(np.tile(NOISE, (2, 1)), rate=24_000, container=container, subtype=subtype)
    with pytest.raises(audio.Truncated):
        audio.decode(content[:600])


def test_flac_of_unknown_length_truncated_in_a_frame_is_undecodable() -> None:
    content = set_flac_length(encode(NOISE, container="FLAC"), 0)
    with pytest.raises(audio.Undecodable):
        audio.decode(content[: int(0.6 * len(content))])


def test_flac_with_fewer_samples_than_announced_is_truncated() -> None:
    with pytest.raises(audio.Truncated, match=f"announces {RATE + 10} samples, the file contains {RATE}"):
        audio.decode(set_flac_length(encode(NOISE, container="FLAC"), RATE + 10))


def test_a_tag_after_the_audio_is_accepted() -> None:
    assert len(audio.decode(encode(NOISE) + b"TAG" + bytes(125)).samples) == RATE


def test_streams_of_unknown_length_are_accepted() -> None:
    flac = set_flac_length(encode(NOISE, container="FLAC"), 0)
    wav = set_wav_field(encode(NOISE), 40, "<I", 0xFFFFFFFF)
    assert len(audio.decode(flac).samples) == len(audio.decode(wav).samples) == RATE


def test_mp3_without_an_encoder_header_is_accepted() -> None:
    options = {"bitrate_mode": "CONSTANT", "compression_level": 0.0}
    content = encode(np.tile(NOISE, (5, 1)), container="MP3", subtype="MPEG_LAYER_III", **options)
    assert b"Info" in content[:100]  # the encoder header is the first frame
    second_frame = content.index(content[:2], 2)
    bare = content[second_frame:]
    tagged = b"ID3\x03\0\0\0\0\x07\x76" + bytes(1014) + bare
    assert audio.decode(bare).seconds == pytest.approx(5, abs=0.1)
    assert audio.decode(tagged).seconds == pytest.approx(5, abs=0.1)
