"""An upstream's checkpoint from the network, read once before it is used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from ..errors import DamagedCheckpoint, InputError, UnreadableFile
from . import fairseq


def fetch(
    url: str,
    refresh: bool = False,
    instead: str = "wav2vec2_vq_local",
    read: Callable[[Path], object] = fairseq.load,
) -> Path:
    """The local copy of an upstream's checkpoint, downloaded into S3PRL's cache on first use.

    S3PRL keeps a download that ended early (s3prl/util/download.py). Here the copy is read once before it is
    used, and it is removed if ``read`` refuses it.

    Args:
        url: http or https address.
        refresh: download again even if there is a copy.
        instead: the upstream that takes the file by its path; errors name it.
        read: reads the copy, and raises InputError if it is damaged.

    Raises:
        InputError: no network, no such file, the download was cut short, or ``read`` refuses the file.
    """
    from s3prl.util.download import urls_to_filepaths

    way_out = f"Copy the file here by other means and use: -u {instead} -k PATH/{Path(url).name}"
    try:
        path = Path(urls_to_filepaths(url, refresh=refresh))
    except (OSError, KeyError, ValueError) as error:
        raise InputError(f"{url}: cannot be downloaded ({_reason(error)}). {way_out}") from error
    try:
        read(path)
    except DamagedCheckpoint as error:
        size = path.stat().st_size
        path.unlink()
        problem = (
            f"the download ended early or is no checkpoint ({size} bytes); the copy was removed, run again"
        )
        refusal = _http_error(url)
        if refusal:
            problem = f"cannot be downloaded ({refusal})"
        raise InputError(f"{url}: {problem}. {way_out}") from error
    except UnreadableFile:
        raise
    except InputError as error:
        path.unlink()
        raise InputError(f"{url}: {str(error).removeprefix(f'{path}: ')}") from error
    return path


def local(
    ckpt: str | None,
    refresh: bool,
    file: str,
    instead: str = "wav2vec2_vq_local",
    read: Callable[[Path], object] = fairseq.load,
) -> Path:
    """The file that `-k` names by its path, or by a URL, for which `fetch` has the other arguments.

    Args:
        file: what kind of file it is, in words.

    Raises:
        InputError: none is named, or as from `fetch`.
    """
    if ckpt is None:
        raise InputError(f"This upstream needs a checkpoint: -k PATH or -k URL of {file} file.")
    if str(ckpt).startswith(("http://", "https://")):
        return fetch(str(ckpt), refresh, instead, read)
    return Path(ckpt)


def _http_error(url: str) -> str:
    """The server's error, or "". (S3PRL saves the error page as if it were the file.)"""
    try:
        urlopen(Request(url, method="HEAD"), timeout=10).close()
    except HTTPError as error:
        return f"{error.code} {error.reason}"
    except OSError:
        pass
    return ""


def _reason(error: Exception) -> str:
    """The innermost cause in one line: `requests` wraps it several times."""
    cause: BaseException = error.__context__ or error
    if isinstance(cause, HTTPError):
        return f"{cause.code} {cause.reason}"
    return " ".join(str(getattr(cause, "reason", None) or cause).split()) or type(cause).__name__
