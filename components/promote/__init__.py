"""The step promote: decide whether the challenger becomes the champion."""
