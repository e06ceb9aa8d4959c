"""Vendored files are those of the releases that vendor/README.md names."""

import hashlib
import re

from helpers.project import ROOT

VENDOR = ROOT / "serving" / "web" / "vendor"


def test_vendored_files_have_the_listed_digests() -> None:
    table = (VENDOR / "README.md").read_text(encoding="utf-8")
    listed = dict(re.findall(r"^\| (\S+\.js) \|.*\| ([0-9a-f]{64}) \|$", table, re.MULTILINE))
    found = {str(path.relative_to(VENDOR)): path for path in VENDOR.rglob("*.js")}
    assert listed.keys() == found.keys() != set()
    for name, path in found.items():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == listed[name], name
