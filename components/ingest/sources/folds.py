"""Which folds a data set has, as far as its table tells before anything is fetched or checked."""

import csv
from collections.abc import Iterable


def folds_in(table: Iterable[str]) -> list[int]:
    """The folds that a table of clips names in its column `fold`, in order.

    Rows without a number there are passed over: ingest tells all that is wrong with a table.

    Raises:
        ValueError, csv.Error: it is no table.
    """
    named = {(row.get("fold") or "").strip() for row in csv.DictReader(table)}
    return sorted({int(text) for text in named if text.isdecimal()})
