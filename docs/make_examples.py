"""Write the examples of the page: `python docs/make_examples.py`. They are synthetic, as the demo data are."""

from pathlib import Path

import numpy as np
import soundfile

from audiocnn.synthetic.dataset import CLASSES, synthesize
from audiocnn.synthetic.signals import RATE

EXAMPLES = Path(__file__).parents[1] / "serving" / "web" / "examples"
SINGLE = ("rain", "chirping_birds", "church_bells", "siren")
RECORDING = ("chirping_birds", "siren", "church_bells")  # of street.ogg, with a second of silence after each
FOLD = 1  # whose recording conditions the demo model knows: these examples show the page, they measure nothing
INDEX = 100  # of the clip; the demo data end before it
FULL_SCALE = 2.0**15


def main() -> None:
    """Write all examples as Ogg Vorbis."""
    kinds = {kind.category: kind for kind in CLASSES}
    clips = {name: synthesize(kinds[name], FOLD, INDEX) / FULL_SCALE for name in {*SINGLE, *RECORDING}}
    EXAMPLES.mkdir(exist_ok=True)
    for name in SINGLE:
        soundfile.write(EXAMPLES / f"{name}.ogg", clips[name], RATE)
    silence = np.zeros(RATE)
    parts = [part for name in RECORDING for part in (clips[name], silence)]
    soundfile.write(EXAMPLES / "street.ogg", np.concatenate(parts), RATE)


if __name__ == "__main__":
    main()
