"""Text from users' files (labels, paths, names) in CSV, Markdown, LaTeX and HTML, where it must do nothing."""

from __future__ import annotations

import html as _html
import re

_FORMULA = re.compile(r"[=+\-@\t\r']")
_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "|": r"\textbar{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    **{each: f"\\{each}" for each in "_%&$#"},
}
_MARKDOWN = re.compile(r"[\\|\[\]`]")


def inert(cell: str) -> str:
    """A cell of a CSV file that no spreadsheet runs: an apostrophe stands before ``= + - @``, tab, return and ``'``.

    Examples:
        >>> inert("=cmd()"), inert("yes")
        ("'=cmd()", 'yes')
    """
    return f"'{cell}" if _FORMULA.match(cell) else cell


def original(cell: str) -> str:
    """What `inert` was given.

    Examples:
        >>> original("'=cmd()")
        '=cmd()'
    """
    return cell.removeprefix("'")


def latex(text: str) -> str:
    r"""One line of LaTeX text that shows ``text``.

    Examples:
        >>> print(latex("50 % of a_b"))
        50 \% of a\_b
    """
    return "".join(_LATEX.get(each, each) for each in _line(text))


def markdown(text: str) -> str:
    """One line of Markdown, also in a cell of a table, that shows ``text``; HTML in it is text.

    Examples:
        >>> print(markdown("<b>VQ-LP|whitening"))
        &lt;b&gt;VQ-LP\\|whitening
    """
    return _html.escape(_MARKDOWN.sub(r"\\\g<0>", _line(text)), quote=False)


def html(text: str) -> str:
    """``text`` in HTML, also in an attribute between quotes.

    Examples:
        >>> html('<a href="x">')
        '&lt;a href=&quot;x&quot;&gt;'
    """
    return _html.escape(text)


def _line(text: str) -> str:
    return " ".join(text.split())
