"""The step ingest: read a data set, check every clip and write the clip table."""

SOURCES = (  # for --help; here, because it is slow to import the sources themselves
    "demo (the embedded data set); esc50 (the official release); dvc or dvc:REVISION (the data that data.dvc pins); "
    "s3://bucket/prefix; the https:// URL of a .zip file; a .zip file; a folder with meta/esc50.csv and audio/"
)
