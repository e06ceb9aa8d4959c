"""The step ingest: a source -> dataset/."""
