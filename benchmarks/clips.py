"""The clips that are measured on: a data set's, decoded to 16-bit WAV as the official release has them."""

from pathlib import Path

import pandas as pd


def scratch() -> Path:
    """Beside the outputs, not in a /tmp that may be memory."""
    folder = Path("var/bench")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def as_wav(data: Path, folder: Path, clips: int | None = None) -> Path:
    """The same data set in ESC-50's layout, or `clips` of it from all over the table, with every clip as WAV."""
    import soundfile

    (folder / "audio").mkdir(parents=True)
    (folder / "meta").mkdir()
    table = pd.read_csv(data / "meta" / "esc50.csv")
    if clips is not None:
        table = table.iloc[:: max(1, len(table) // clips)].head(clips)
    for name in table["filename"]:
        samples, rate = soundfile.read(data / "audio" / name, dtype="int16", always_2d=True)
        soundfile.write(folder / "audio" / f"{Path(name).stem}.wav", samples, rate, subtype="PCM_16")
    table["filename"] = [f"{Path(name).stem}.wav" for name in table["filename"]]
    table.to_csv(folder / "meta" / "esc50.csv", index=False)
    return folder
