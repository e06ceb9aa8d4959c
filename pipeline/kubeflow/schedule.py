"""Schedules of recurring runs, as Kubeflow Pipelines reads them."""

import re

from pipeline.kubeflow.errors import KubeflowError

FIELD = re.compile(r"[0-9A-Za-z*/,?-]+")


def parse_cron(text: str) -> str:
    """Return a cron expression with six fields, of which the first are seconds.

    Args:
        text: five fields as in crontab, such as "0 3 * * 1" (minute, hour, day, month, day of the week), or six.
    Raises:
        KubeflowError: it has another form. The server checks the values.
    """
    fields = text.split()
    if len(fields) not in (5, 6) or not all(map(FIELD.fullmatch, fields)):
        raise KubeflowError(
            f'--cron {text!r}: expected minute, hour, day of the month, month and day of the week, such as "0 3 * * 1"'
        )
    return " ".join(fields if len(fields) == 6 else ["0", *fields])
