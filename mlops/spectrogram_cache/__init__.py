"""A content-addressed cache of spectrograms: entries, manifests of the data sets that use them, eviction."""

DEFAULT_CACHE = "var/cache/spectrograms"
