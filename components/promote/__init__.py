"""The step promote: whether the challenger becomes the champion, by policy and with recorded reasons."""
