"""Where a checkpoint is taken from, and what is said of a server."""

from __future__ import annotations

from email.message import Message
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError

import pytest

from s3prl_vqpool.checkpoints import download
from s3prl_vqpool.errors import InputError


def http_error() -> HTTPError:
    return HTTPError("http://x", 404, "Not Found", Message(), None)


def test_a_url_is_fetched_and_a_path_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "fetch", lambda *given: given)
    for url in ("http://x/a.pt", "https://x/a.pt"):
        assert download.local(url, True, "a file", "other", len) == (url, True, "other", len)
    assert download.local("dir/http:a.pt", True, "a file") == Path("dir/http:a.pt")
    with pytest.raises(
        InputError, match=r"^This upstream needs a checkpoint: -k PATH or -k URL of fairseq's file\.$"
    ):
        download.local(None, False, "fairseq's")


@pytest.mark.parametrize(
    ("error", "told"),
    [(http_error(), "404 Not Found"), (URLError("no route"), ""), (TimeoutError(), ""), (None, "")],
)
def test_the_servers_error_is_told(
    error: Exception | None, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    class Answer:
        def close(self) -> None:
            asked.append("closed")

    def answers(request: Any, timeout: float) -> Answer:
        asked.append((request.full_url, request.get_method()))
        assert 1 < timeout < 60
        if error is not None:
            raise error
        return Answer()

    monkeypatch.setattr(download, "urlopen", answers)
    assert download._http_error("http://x/a.pt") == told
    assert asked == [("http://x/a.pt", "HEAD"), *(["closed"] if error is None else [])]


def caused(cause: Exception, error: Exception) -> Exception:
    error.__context__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (http_error(), "404 Not Found"),
        (caused(http_error(), OSError("wrapped")), "404 Not Found"),
        (caused(URLError(OSError("no\nroute")), ValueError("wrapped")), "no route"),
        (OSError("no  disk"), "no disk"),
        (KeyError(), "KeyError"),
        (caused(TimeoutError(), OSError("wrapped")), "TimeoutError"),
    ],
)
def test_the_innermost_reason_is_one_line(error: Exception, reason: str) -> None:
    assert download._reason(error) == reason
