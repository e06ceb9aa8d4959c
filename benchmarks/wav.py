"""The clips of a data set, decoded to 16-bit WAV as in the official release of ESC-50."""

from pathlib import Path

import pandas as pd
import soundfile

from audiocnn.data.clips import DatasetError

SCRATCH = Path("var/bench")  # for temporary files; /tmp may be in memory


def write_wav(data: Path, folder: Path, clips: int | None = None) -> Path:
    """Write a data set with all clips as WAV.

    Args:
        data: folder in ESC-50's layout.
        folder: new folder for the copy, in the same layout.
        clips: number of clips, taken evenly from the table; None for all.
    Returns:
        `folder`.
    Raises:
        DatasetError: `data` is not in ESC-50's layout.
    """
    if not (data / "meta" / "esc50.csv").is_file():
        raise DatasetError(f"{data}: not in ESC-50's layout: meta/esc50.csv is missing; set DATA to such a folder")
    (folder / "audio").mkdir(parents=True)
    (folder / "meta").mkdir()
    table = pd.read_csv(data / "meta" / "esc50.csv", dtype=str, keep_default_na=False)  # a class may be called NA
    if clips is not None:
        table = table.iloc[:: max(1, len(table) // clips)].head(clips)
    for name in table["filename"]:
        samples, rate = soundfile.read(data / "audio" / name, dtype="int16", always_2d=True)
        soundfile.write(folder / "audio" / f"{Path(name).stem}.wav", samples, rate, subtype="PCM_16")
    table["filename"] = [f"{Path(name).stem}.wav" for name in table["filename"]]
    table.to_csv(folder / "meta" / "esc50.csv", index=False)
    return folder
