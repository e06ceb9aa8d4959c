"""Files of which libsndfile would decode only a part are detected or repaired; other files are accepted."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from helpers.audio import ENCODINGS, NOISE, RATE, encode, set_flac_length, set_wav_field

from audiocnn import audio
from audiocnn.errors import AudioError, Empty, Truncated, Undecodable


@pytest.mark.parametrize(("container", "subtype"), ENCODINGS)
@pytest.mark.parametrize("share", [0.6, 0.97])
def test_truncated_files_are_detected(container: str, subtype: str, share: float) -> None:
    content = encode(NOISE, container=container, subtype=subtype)
    with pytest.raises(Truncated):
        audio.decode(content[: int(share * len(content))])


@pytest.mark.parametrize(("container", "subtype"), [("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS")])
def test_files_truncated_after_600_bytes_are_detected(container: str, subtype: str) -> None:
    content = encode(np.tile(NOISE, (2, 1)), rate=24_000, container=container, subtype=subtype)
    with pytest.raises(Truncated):
        audio.decode(content[:600])


def test_wave64_with_an_impossible_size_is_refused() -> None:
    content = bytearray(encode(NOISE, container="W64", subtype="PCM_16"))
    content[56:64] = b"\xff\xff\xff\xff\xff\xff\xff\x7f"  # the size of the chunk fmt
    with pytest.raises(AudioError):
        audio.decode(bytes(content))


def test_flac_of_unknown_length_truncated_in_a_frame_is_undecodable() -> None:
    content = set_flac_length(encode(NOISE, container="FLAC"), 0)
    with pytest.raises(Undecodable):
        audio.decode(content[: int(0.6 * len(content))])


def test_flac_with_fewer_samples_than_announced_is_truncated() -> None:
    with pytest.raises(Truncated, match=f"announces {RATE + 10} samples, the file contains {RATE}"):
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


def variable_mp3_without_frame_count() -> bytes:
    """Return an MP3 stream as a pipe leaves it: quiet frames of few bits after a loud one of many."""
    loud, quiet = (
        encode(samples, 44_100, "MP3", "MPEG_LAYER_III", bitrate_mode="CONSTANT", compression_level=level)
        for samples, level in ((NOISE, 0.0), (0.01 * np.tile(NOISE, (4, 1)), 0.9))
    )
    return b"".join(content[content.index(content[:2], 2) :] for content in (loud, quiet))


def test_mp3_of_variable_bit_rate_without_a_frame_count_is_decoded_to_its_end(tmp_path: Path) -> None:
    content = variable_mp3_without_frame_count()
    assert soundfile.info(io.BytesIO(content)).frames < 2 * RATE  # libsndfile's estimate
    assert len(audio.decode(content).samples) == pytest.approx(5 * RATE, abs=4 * 1152)
    (tmp_path / "clip.mp3").write_bytes(content)
    np.testing.assert_array_equal(audio.decode(tmp_path / "clip.mp3").samples, audio.decode(content).samples)
    with pytest.raises(Truncated, match="within a frame"):
        audio.decode(content[:-100])


@pytest.mark.parametrize(("container", "subtype"), [("OGG", "VORBIS"), ("FLAC", "PCM_16"), ("MP3", "MPEG_LAYER_III")])
def test_several_streams_in_a_file_are_refused(container: str, subtype: str) -> None:
    content = encode(NOISE, container=container, subtype=subtype)
    with pytest.raises(Undecodable, match=f"contains 2 {container} streams"):
        audio.decode(content + encode(NOISE[::-1], container=container, subtype=subtype))


@pytest.mark.parametrize("size", [0x7F000000, 0x7FFFF000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFDB, 0xFFFFFFFF])
@pytest.mark.parametrize("container", ["WAV", "AIFF"])
def test_size_that_a_pipe_could_not_fill_in_is_ignored(container: str, size: int) -> None:
    content = bytearray(encode(NOISE, container=container))
    layout, chunk = ("<I", b"data") if container == "WAV" else (">I", b"SSND")
    for offset in (4, content.index(chunk) + 4):
        struct.pack_into(layout, content, offset, size)
    assert len(audio.decode(bytes(content)).samples) == RATE


@pytest.mark.parametrize("riff_size", [0, 36, 0x7FFFF024, 0xFFFFFFFF])
def test_wav_that_was_never_closed_is_decoded(riff_size: int) -> None:
    content = set_wav_field(set_wav_field(encode(NOISE), 40, "<I", 0), 4, "<I", riff_size)
    assert len(audio.decode(content).samples) == RATE


def test_empty_wav_with_another_chunk_is_empty() -> None:
    empty = encode(NOISE[:0]) + b"LIST\4\0\0\0INFO"
    with pytest.raises(Empty):
        audio.decode(set_wav_field(empty, 4, "<I", len(empty) - 8))


def test_mp3_in_wav_needs_ffmpeg() -> None:
    mp3 = encode(NOISE, container="MP3", subtype="MPEG_LAYER_III")
    layer3 = struct.pack("<HHIIHHHHIHHH", 85, 1, RATE, 8000, 1, 0, 12, 1, 2, 417, 1, 0)
    chunks = b"fmt " + struct.pack("<I", len(layer3)) + layer3 + b"data" + struct.pack("<I", len(mp3)) + mp3
    with pytest.raises(Undecodable, match="MP3 in WAV is decoded by the program ffmpeg only"):
        audio.decode(b"RIFF" + struct.pack("<I", len(chunks) + 4) + b"WAVE" + chunks)
