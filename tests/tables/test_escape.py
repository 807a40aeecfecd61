"""Labels from users' files do nothing in CSV, Markdown, LaTeX and HTML."""

from __future__ import annotations

import csv
import io
import re
from html.parser import HTMLParser

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3prl_vqpool.tables import escape, latex
from s3prl_vqpool.tables.predictions import COLUMNS
from s3prl_vqpool.tables.table import Row, Table

HOSTILE = ("<script>alert(1)</script>", "_%&$#{}~^\\", "=cmd()", "a\nb\r\n| c |", "[x](javascript:y)", "`|`")
TEXT = st.text() | st.sampled_from(HOSTILE)


def table(label: str) -> Table:
    rows = [Row(label, label, {label: 1.0}, None, slots={label: {label: 2.0}})]
    return Table(label, (label,), rows, [label], {}, pd.DataFrame(columns=list(COLUMNS)))


class Tags(HTMLParser):
    """Collects elements and text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


@given(TEXT)
def test_inert_is_no_formula_and_is_taken_back(text: str) -> None:
    assert not escape.inert(text).startswith(("=", "+", "-", "@", "\t", "\r"))
    assert escape.original(escape.inert(text)) == text


@given(TEXT)
def test_html_is_text(text: str) -> None:
    parser = Tags()
    parser.feed(f'<p title="{escape.html(text)}">{escape.html(text)}</p>')
    parser.close()
    assert parser.tags == ["p"]
    assert not set("<>\"'") & set(escape.html(text))


@given(TEXT)
def test_markdown_is_one_line_without_html_cells_or_links(text: str) -> None:
    found = escape.markdown(text)
    assert len(found.splitlines()) <= 1
    assert not set("<>") & set(found)
    bare = re.sub(r"\\.", "", found)  # a backslash and what it makes text
    assert not set("|[]`\\") & set(bare)


@given(TEXT)
def test_latex_has_no_character_that_does_something(text: str) -> None:
    found = escape.latex(text)
    for command in (
        "textbackslash",
        "textasciitilde",
        "textasciicircum",
        "textbar",
        "textless",
        "textgreater",
    ):
        found = found.replace(f"\\{command}{{}}", "")
    found = re.sub(r"\\[_%&$#{}]", "", found)
    assert not set("_%&$#{}~^\\") & set(found)
    assert len(found.splitlines()) <= 1


@pytest.mark.parametrize("label", HOSTILE)
def test_a_table_with_hostile_names_is_still_a_table(label: str) -> None:
    made = table(label)
    rows = list(csv.reader(io.StringIO(made.csv())))
    assert {len(row) for row in rows} == {5}
    assert not any(cell.startswith(("=", "+", "-", "@")) for row in rows for cell in row)
    body = [line for line in made.markdown().splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", re.sub(r"\\\\", "", line))) for line in body} == {4}
    assert "<" not in made.markdown()
    document = latex.document(made)
    tabular = [line for line in document.splitlines() if line.endswith(r"\\")]
    assert [len(re.findall(r"(?<!\\)&", line)) for line in tabular] == [2, 2]
    assert document.count("\n%") + document.startswith("%") == 1  # the note
