"""The content-addressed cache of spectrograms: entries, manifests, eviction."""

DEFAULT_CACHE = "var/cache/spectrograms"
