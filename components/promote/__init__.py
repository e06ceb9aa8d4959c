"""The step promote: whether the challenger becomes the champion, decided by policy and recorded."""
