"""Downloading a checkpoint through S3PRL's cache, from a server on localhost."""

import hashlib
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import s3prl_vqpool  # noqa: F401 (S3PRL's own modules import after it on every stack)

# isort: split
import pytest
import s3prl.util.download
import torch
from s3prl import hub
from tiny import LARGE, converted_checkpoint, waves

from s3prl_vqpool import checkpoints
from s3prl_vqpool.checkpoints import download
from s3prl_vqpool.errors import InputError

FILE = "wav2vec_small.pt"


class Server(ThreadingHTTPServer):
    """Serves one body at every address, in the way that `answer` names; counts the requests."""

    daemon_threads = True

    def __init__(self, body: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.body, self.answer = body, "whole"
        self.gets: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/resolve/main/{FILE}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_HEAD(self) -> None:
        self.send_response(404 if self.server.answer.startswith("404") else 200)
        self.end_headers()

    def do_GET(self) -> None:
        self.server.gets.append(self.path)
        getattr(self, "answer_" + self.server.answer.replace(" ", "_"))(self.server.body)
        self.close_connection = True

    def reply(self, code: int, body: bytes, *headers: tuple[str, str]) -> None:
        self.send_response(code)
        for header in headers:
            self.send_header(*header)
        self.end_headers()
        self.wfile.write(body)

    def answer_whole(self, body: bytes) -> None:
        self.reply(200, body, ("Content-Length", str(len(body))))

    def answer_cut(self, body: bytes) -> None:
        self.reply(200, body[: len(body) // 2], ("Content-Length", str(len(body))))

    def answer_cut_at_once(self, body: bytes) -> None:
        self.reply(200, b"", ("Content-Length", str(len(body))))

    def answer_chunks_cut(self, body: bytes) -> None:
        self.protocol_version = "HTTP/1.1"
        piece = body[:5000]
        self.reply(200, b"%x\r\n" % len(piece) + piece + b"\r\n", ("Transfer-Encoding", "chunked"))

    def answer_cut_without_length(self, body: bytes) -> None:
        self.reply(200, body[: len(body) // 2])

    def answer_404(self, body: bytes) -> None:
        page = b"<html>Entry not found</html>"
        self.reply(404, page, ("Content-Length", str(len(page))))

    def answer_404_without_length(self, body: bytes) -> None:
        self.reply(404, b"Entry not found")

    def answer_login_page(self, body: bytes) -> None:
        page = b"<html>Welcome to our hotel's network</html>"
        self.reply(200, page, ("Content-Length", str(len(page))))

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return converted_checkpoint(tmp_path_factory.mktemp("converted") / "tiny.pt", LARGE)


@pytest.fixture
def server(converted: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    server = Server(converted.read_bytes())
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Path]:
    before = s3prl.util.download._download_dir
    s3prl.util.download.set_dir(tmp_path / "cache")
    yield tmp_path / "cache"
    s3prl.util.download.set_dir(before)


def left(cache: Path) -> set[str]:
    """Everything in the cache but S3PRL's lock files."""
    return {path.name for path in cache.glob("*") if path.suffix != ".lock"}


def cached_name(url: str) -> str:
    """S3PRL's name for the local copy."""
    return f"{hashlib.sha256(url.encode()).hexdigest()}.{FILE}"


def make_old(path: Path) -> None:
    """S3PRL refreshes only what is older than two seconds."""
    os.utime(path, (time.time() - 60,) * 2)


def test_download_happens_once_and_is_kept_under_s3prls_name(server: Server, cache: Path) -> None:
    path = checkpoints.fetch(server.url)
    assert path.read_bytes() == server.body
    assert path.name == cached_name(server.url)
    assert server.gets == [f"/resolve/main/{FILE}"]
    assert checkpoints.fetch(server.url) == path
    assert len(server.gets) == 1
    assert left(cache) == {path.name}


def test_download_is_shared_with_s3prls_own_upstream(server: Server, cache: Path) -> None:
    hub.wav2vec2_url(ckpt=server.url)
    hub.wav2vec2_vq_url(ckpt=server.url)
    assert len(server.gets) == 1


def test_refresh_downloads_again(server: Server, cache: Path, tmp_path: Path) -> None:
    path = checkpoints.fetch(server.url)
    server.body = converted_checkpoint(tmp_path / "newer.pt", LARGE, seed=1).read_bytes()
    make_old(path)
    assert checkpoints.fetch(server.url).read_bytes() != server.body
    assert checkpoints.fetch(server.url, refresh=True).read_bytes() == server.body
    assert len(server.gets) == 2
    checkpoints.fetch(server.url, refresh=True)  # the copy is new: several processes refresh once
    assert len(server.gets) == 2


CUT = ["cut", "cut at once", "chunks cut", "cut without length"]


@pytest.mark.parametrize("answer", [*CUT, "404", "404 without length", "login page"])
def test_failed_download_is_one_line_and_leaves_nothing(server: Server, cache: Path, answer: str) -> None:
    server.answer = answer
    with pytest.raises(InputError) as refusal:
        checkpoints.fetch(server.url)
    message = str(refusal.value)
    assert len(message.splitlines()) == 1
    assert message.startswith(f"{server.url}: ")
    assert message.endswith(f"-u wav2vec2_vq_local -k PATH/{FILE}")
    if answer.startswith("404"):
        assert "404" in message
    assert left(cache) == set()
    server.answer = "whole"
    assert checkpoints.fetch(server.url).read_bytes() == server.body
    assert left(cache) == {cached_name(server.url)}


@pytest.mark.parametrize("answer", ["cut", "chunks cut", "404"])
def test_failed_refresh_leaves_no_damaged_copy(server: Server, cache: Path, answer: str) -> None:
    path = checkpoints.fetch(server.url)
    make_old(path)
    server.answer = answer
    with pytest.raises(InputError):
        checkpoints.fetch(server.url, refresh=True)
    assert not path.exists() or path.read_bytes() == server.body
    server.answer = "whole"
    assert checkpoints.fetch(server.url).read_bytes() == server.body
    assert left(cache) == {path.name}


def test_checkpoint_that_runs_code_is_not_kept(server: Server, cache: Path, tmp_path: Path) -> None:
    class RunsCommand:
        def __reduce__(self) -> tuple:
            return os.system, (f"touch {tmp_path / 'canary'}",)

    torch.save({"model_weight": RunsCommand(), "model_cfg": {}, "task_cfg": {}}, tmp_path / "evil.pt")
    server.body = (tmp_path / "evil.pt").read_bytes()
    with pytest.raises(InputError, match=rf"it asks to import {os.system.__module__}\.system") as refusal:
        checkpoints.fetch(server.url)
    assert str(refusal.value).startswith(f"{server.url}: ")
    assert not (tmp_path / "canary").exists()
    assert left(cache) == set()


def test_no_server_names_the_file_and_the_other_way(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/{FILE}"
        with pytest.raises(InputError, match="Connection refused") as refusal:
            checkpoints.fetch(url)
    message = str(refusal.value)
    assert len(message.splitlines()) == 1
    assert message.startswith(f"{url}: cannot be downloaded (")
    assert message.endswith(f"-u wav2vec2_vq_local -k PATH/{FILE}")
    assert left(cache) == set()


def test_named_upstream_is_downloaded_once_and_is_the_file(
    server: Server, cache: Path, converted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hubconf = sys.modules["s3prl.upstream.wav2vec2_vq.hubconf"]
    monkeypatch.setattr(hubconf, "_CONVERTED", server.url.rpartition("/")[0])
    wavs = waves(6000, 4000)
    with torch.no_grad():
        expected = hub.wav2vec2_vq_local(ckpt=str(converted)).eval()(wavs)
        for _ in range(2):
            found = hub.wav2vec2_vq(ckpt=None, model_config=None, refresh=False).eval()(wavs)
            assert torch.equal(found["codes"], expected["codes"])
            assert torch.equal(found["last_hidden_state"], expected["last_hidden_state"])
    assert server.gets == [f"/resolve/main/{FILE}"]


@pytest.mark.parametrize(
    "name",
    [
        "wav2vec2",
        "wav2vec2_base_960",
        "wav2vec2_large_960",
        "wav2vec2_large_ll60k",
        "xlsr_53",
        "xls_r_300m",
        "xls_r_1b",
        "xls_r_2b",
    ],
)
def test_named_upstream_asks_for_the_file_of_s3prls_upstream(
    name: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Asked(Exception):
        pass

    def ask(url: str, refresh: bool = False, *_: object) -> None:
        raise Asked(url, refresh)

    monkeypatch.setattr(sys.modules["s3prl.upstream.wav2vec2.hubconf"], "_urls_to_filepaths", ask)
    monkeypatch.setattr(download, "fetch", ask)
    asked = []
    for entry in (getattr(hub, name), getattr(hub, f"{name}_vq")):
        with pytest.raises(Asked) as raised:
            entry(refresh=True)
        asked.append(raised.value.args)
    assert asked[0] == asked[1]
    assert asked[0][1] is True
