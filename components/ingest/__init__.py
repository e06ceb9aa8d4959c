"""The step ingest: read a data set, check every clip and write the clip table."""
