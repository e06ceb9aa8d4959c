"""The base of the HTML reports: values are escaped, and a missing one is an error."""

from pathlib import Path

import jinja2
import pytest

from mlops import reports

TEMPLATE = """{% extends "base.html.j2" %}
{% from "macros.html.j2" import bar, facts, figure %}
{% block title %}{{ title }}{% endblock %}
{% block body %}{{ figure(share|percent, title) }}{{ bar(share) }}{{ facts([(title, clips|thousands)]) }}{% endblock %}
"""


@pytest.fixture
def template(tmp_path: Path) -> Path:
    path = tmp_path / "report.html.j2"
    path.write_text(TEMPLATE, encoding="utf-8")
    return path


def test_a_template_uses_the_base_page_its_macros_and_filters(template: Path) -> None:
    page = reports.render(template, title="A title", share=0.1234, clips=12345)
    assert page.startswith("<!doctype html>") and "<title>A title</title>" in page
    assert "<b>12.3</b>" in page and "width: 12.3%" in page and "12,345" in page


def test_values_are_escaped_in_macros_too(template: Path) -> None:
    page = reports.render(template, title="<script>", share=0.5, clips=1)
    assert "<script" not in page and page.count("&lt;script&gt;") == 3


def test_a_missing_value_is_an_error(template: Path) -> None:
    with pytest.raises(jinja2.UndefinedError, match="title"):
        reports.render(template, share=0.5, clips=1)
