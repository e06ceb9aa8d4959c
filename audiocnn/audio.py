"""Bytes or a file -> a mono waveform at the model's rate and length; a typed error for what is no sound."""

import io
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from audiocnn.config import SpectrogramSettings
from audiocnn.errors import AudioCNNError

FloatArray = npt.NDArray[np.float32]
SILENCE = 2.0**-15  # one step of 16-bit audio: what never reaches it is digital silence
CLIPPED = 1.0 - 2.0**-14  # full scale of 16-bit audio, up or down, within one step
LOUDEST = 2.0**31  # floats on the scale of 32-bit integers; far beyond it the power spectrum overflows
FORMATS = ("WAV", "WAVEX", "AIFF", "FLAC", "OGG", "MP3")  # those of libsndfile's in which a cut file is noticed
BLOCK = 2**20  # samples read at once
REST = 2**10  # frames asked for where the header promises no more
UNKNOWN = 2**62  # libsndfile announces about 2**63 frames for a FLAC stream whose encoder wrote to a pipe
STUDIO = 2 * 48_000  # samples a second of stereo at 48 kHz: what `max_seconds` allows for


class AudioError(AudioCNNError):
    """Bytes that cannot serve as a clip. `reason` is the key of the ingest policy."""

    reason: ClassVar[str] = "audio"


class Undecodable(AudioError):
    """No audio, or none in one of FORMATS."""

    reason = "undecodable"


class Empty(AudioError):
    """No bytes, or a header without samples."""

    reason = "empty"


class Truncated(AudioError):
    """The file ends before the audio that its header announces."""

    reason = "truncated"


class NotFinite(AudioError):
    """Floating-point samples with NaN or infinity among them, or with numbers that are no loudness."""

    reason = "not_finite"


class Silent(AudioError):
    """The mean of the channels never reaches one step of 16-bit audio."""

    reason = "silent"


class TooShort(AudioError):
    """Shorter than the stated minimum."""

    reason = "too_short"


class TooLong(AudioError):
    """More audio than the stated maximum; a megabyte of FLAC or Ogg can hold days of it."""

    reason = "too_long"


@dataclass(frozen=True)
class Sound:
    """Decoded audio: samples of shape (frames, channels), float32 within [-1, 1] for integer formats; rate in Hz."""

    samples: FloatArray
    rate: int
    format: str

    @property
    def seconds(self) -> float:
        """Duration in s."""
        return len(self.samples) / self.rate

    @property
    def mono(self) -> FloatArray:
        """Mean of the channels, shape (frames,): what the front end listens to."""
        if self.samples.shape[1] == 1:
            return self.samples[:, 0]
        # Channel by channel: numpy's mean over an axis of two is ten times slower.
        total = self.samples[:, 0] + self.samples[:, 1]
        for channel in self.samples.T[2:]:
            total += channel
        total /= np.float32(self.samples.shape[1])
        return total

    @property
    def peak(self) -> float:
        """Largest magnitude of any sample, 1 being full scale."""
        return float(np.abs(self.samples).max())

    @property
    def clipped_share(self) -> float:
        """Share of the samples that stand at full scale, 0 to 1."""
        return float((np.abs(self.samples) >= CLIPPED).mean())


def decode(source: Path | bytes, max_seconds: float | None = None) -> Sound:
    """Decode a file or its bytes with libsndfile: any rate, any channel count, 8 to 32 bit.

    Args:
        max_seconds: refuse more audio than that, and more samples than as many seconds of 48 kHz stereo hold, after
            decoding no more than that; None takes any length.
    Raises:
        Empty, Undecodable, Truncated, NotFinite, TooLong: see there.
        OSError: the file cannot be read.
    """
    import soundfile

    content = source if isinstance(source, bytes) else source.read_bytes()
    if not content:
        raise Empty("the file has no bytes")
    try:
        with soundfile.SoundFile(_Bytes(content)) as file:
            if file.format not in FORMATS:
                raise Undecodable(f"{file.format_info} is not taken; WAV, AIFF, FLAC, Ogg and MP3 are")
            samples, announced = _read(file, max_seconds), file.frames
            rate, kind, floats = file.samplerate, file.format, file.subtype != "PCM_16"
    except (soundfile.LibsndfileError, RuntimeError) as error:
        if _ogg_begins(content) and not _ogg_ends(content):  # libsndfile looks for the last page when it opens one
            raise Truncated("the Ogg stream ends without its last page") from error
        raise Undecodable(f"no audio that can be decoded ({_sentence(error)})") from error
    _check_length(content, kind, len(samples), announced)
    if len(samples) == 0:
        raise Empty("the file has a header and no samples")
    # One pass, no copy: a NaN makes both extremes NaN, and comparing with it is false.
    if floats and not (samples.min() >= -LOUDEST and samples.max() <= LOUDEST):
        raise NotFinite("the samples hold NaN, infinity or numbers beyond any loudness")
    return Sound(samples, rate, kind)


def check(sound: Sound, min_seconds: float) -> None:
    """Refuse what carries no information.

    Raises:
        TooShort: shorter than `min_seconds`.
        Silent: the mean of the channels never reaches one step of 16-bit audio (2**-15 of full scale).
    """
    if sound.seconds < min_seconds:
        raise TooShort(f"the clip lasts {sound.seconds:.3f} s; at least {min_seconds:g} s are needed")
    if float(np.abs(sound.mono).max()) < SILENCE:
        cancel = ": its channels cancel each other out" if sound.peak >= SILENCE else ""
        raise Silent(f"the clip is silent{cancel}")


def fit(sound: Sound, rate: int, seconds: float) -> FloatArray:
    """Mean of the channels, resampled to `rate` (soxr, high quality), cut or padded with silence at the end.

    Returns:
        float32 of shape (round(rate * seconds),).
    """
    import soxr

    length = round(rate * seconds)
    mono = sound.mono
    if sound.rate != rate:
        # Half a second beyond the cut keeps the filter's tail whole and spares the work on what is cut off anyway.
        mono = mono[: int((seconds + 0.5) * sound.rate)]
        mono = soxr.resample(mono, sound.rate, rate)
    fitted = np.zeros(length, np.float32)
    fitted[: min(length, len(mono))] = mono[:length]
    return fitted


def load(source: Path | bytes, settings: SpectrogramSettings) -> FloatArray:
    """`decode` and `fit` at the front end's rate and length: float32 of shape (settings.samples,)."""
    return fit(decode(source), settings.rate, settings.seconds)


class _Bytes(io.BytesIO):
    """A broken header makes libsndfile seek before the start; an error in its callback would be printed, not raised."""

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        try:
            return super().seek(offset, whence)
        except ValueError:
            return self.tell()


def _read(file: "soundfile.SoundFile", max_seconds: float | None) -> FloatArray:  # type: ignore[name-defined]  # noqa: F821
    """All samples as float32 (frames, channels). 16-bit PCM is read as integers, which decodes several times faster."""
    kind = "int16" if file.subtype == "PCM_16" else "float32"
    limit = math.inf if max_seconds is None else max_seconds * min(file.samplerate, STUDIO / file.channels)
    blocks, frames = [np.empty((0, file.channels), kind)], 0
    file.seekable = lambda: False  # or soundfile seeks after every read, which a FLAC stream of unknown length refuses
    # In blocks, because a header may announce more frames than memory holds; no larger than what it announces, and a
    # little more, because a file may hold what its header does not tell.
    most = max(1, BLOCK // file.channels)
    while len(block := _block(file, min(most, max(file.frames - frames, REST)), kind)):
        frames += len(block)
        if frames > limit:
            raise TooLong(f"the clip is too long: at most {max_seconds:g} s are taken, and those up to 48 kHz stereo")
        blocks.append(block)
    samples: FloatArray = (np.concatenate(blocks) if len(blocks) > 2 else blocks[-1]).astype(np.float32, copy=False)
    if kind == "int16":
        samples *= np.float32(2**-15)  # in place: memory that is touched for the first time costs more than the product
    return samples


def _block(file: "soundfile.SoundFile", frames: int, kind: str) -> npt.NDArray[Any]:  # type: ignore[name-defined]  # noqa: F821
    """The next so many frames, fewer at the end.

    Raises:
        Truncated: a stream that opened well breaks off, as FLAC does in a frame that is cut.
    """
    import soundfile

    try:
        block: npt.NDArray[Any] = file.read(frames, dtype=kind, always_2d=True)
    except soundfile.LibsndfileError as error:
        if not 0 < file.frames < UNKNOWN:
            raise
        raise Truncated(f"the header announces {file.frames} samples, and the file breaks off before") from error
    return block


def _check_length(content: bytes, kind: str, frames: int, announced: int) -> None:
    """libsndfile reads what is there without a word; hold it against what the container announces.

    Raises:
        Truncated: fewer samples, a chunk beyond the end, or an Ogg stream without its last page. An MP3 stream without
            an encoder's header announces nothing, so a cut one passes as a shorter clip; nor does a FLAC stream of
            unknown length.
    """
    if frames < announced < UNKNOWN and not (kind == "MP3" and not _mp3_announces(content)):
        raise Truncated(f"the header announces {announced} samples, the file holds {frames}")
    if kind in ("WAV", "WAVEX", "AIFF") and (missing := _chunk_missing(content)) > 0:
        raise Truncated(f"the last {missing} bytes of the audio that the header announces are missing")
    if kind == "OGG" and not _ogg_ends(content):
        raise Truncated("the Ogg stream ends without its last page")


def _chunk_missing(content: bytes) -> int:
    """Bytes of the audio's chunk beyond the end of the file.

    Layouts: Microsoft, RIFF/WAVE (1991); Apple, Audio Interchange File Format (1989), which counts big-endian.
    """
    layout, audio = (">4sI", b"SSND") if content.startswith(b"FORM") else ("<4sI", b"data")
    position = 12
    while position + 8 <= len(content):
        name, size = struct.unpack_from(layout, content, position)
        if name == audio:
            # A recorder that streams to a pipe cannot know the length and writes all ones, or nothing: not a cut.
            return 0 if size in (0, 0xFFFFFFFF) else max(0, position + 8 + size - len(content))
        position += 8 + size + size % 2
    return 0


def _mp3_announces(content: bytes) -> bool:
    """Whether the first frame counts the frames (the encoders' "Xing" and "Info"); else libsndfile can only guess."""
    start = 0
    if content.startswith(b"ID3"):  # a tag of any size stands before it: id3.org, ID3v2.4.0, section 3.1
        size = content[6:10]
        start = 10 + sum(byte << shift for byte, shift in zip(size, (21, 14, 7, 0), strict=True))
    first = content[start : start + 1024]
    return b"Xing" in first or b"Info" in first


def _ogg_begins(content: bytes) -> bool:
    """Whether the first page is whole and carries the flag of a stream's beginning."""
    return content.startswith(b"OggS") and bool(_ogg_flags(content, 0) & 0x02)


def _ogg_ends(content: bytes) -> bool:
    """Whether the last page is whole and carries the flag of a stream's end."""
    page = content.rfind(b"OggS")
    return page >= 0 and bool(_ogg_flags(content, page) & 0x04)


def _ogg_flags(content: bytes, page: int) -> int:
    """The flags of the page that begins there (RFC 3533, section 6); 0 where it is not whole."""
    if page + 27 > len(content):
        return 0
    flags, segments = content[page + 5], content[page + 26]
    table = content[page + 27 : page + 27 + segments]
    whole = len(table) == segments and page + 27 + segments + sum(table) <= len(content)
    return flags if whole else 0


def _sentence(error: Exception) -> str:
    """libsndfile's own words without the Python object's address in them."""
    return str(getattr(error, "error_string", error)).strip().rstrip(".")
