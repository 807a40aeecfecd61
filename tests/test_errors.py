"""Failures around a command: one line, the right exit code, and nothing on the terminal beside it."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from s3prl_vqpool import errors
from s3prl_vqpool.errors import InputError, one_line, run_command
from s3prl_vqpool.files import whole, write_text
from s3prl_vqpool.runner import run_downstream

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = {
    **os.environ,
    "PYTHONUNBUFFERED": "",
    "PYTHONPATH": str(ROOT),
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
}
VQPOOL = f"{sys.executable} -m s3prl_vqpool"


def shell(command: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", command], cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, timeout=120
    )


def failing(error: BaseException) -> Callable[[], int]:
    def work() -> int:
        raise error

    return work


def outcome(error: BaseException, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    code = run_command(failing(error), lambda: "here: again")
    (line,) = capsys.readouterr().err.splitlines()
    return code, line


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (InputError("x: no."), 2, "error: x: no."),
        (OSError(errno.ENOSPC, "No space left on device", "/d/f"), 2,
         "error: /d/f: No space left on device: free some space, or write elsewhere."),
        (PermissionError(errno.EACCES, "Permission denied", "/d/f"), 2,
         "error: /d/f: Permission denied: check its permissions, or name another place."),
        (OSError(errno.EROFS, "Read-only file system", b"/d/f"), 2,
         "error: /d/f: Read-only file system: name another place."),
        (OSError(errno.EIO, "Input/output error", "/d/f"), 1, "error: /d/f: Input/output error."),
        (OSError("could not connect"), 1, "error: could not connect"),
        (RuntimeError("unable to write to file </torch_1_2_3>: No space left on device (28)"), 2,
         "error: /dev/shm: too little shared memory for the DataLoader's workers: enlarge it, or give "
         "-o config.downstream_expert.datarc.num_workers=0."),
        (RuntimeError("I/O error: No space left on device (os error 28)"), 2,
         "error: No space left on device: free some space, or write elsewhere."),
        (ImportError("No module named 'x'"), 1, "error: No module named 'x'"),
        (KeyboardInterrupt(), 130, "interrupted in here: again"),
        (errors.Stopped(signal.SIGTERM), 143, "terminated in here: again"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)  # fmt: skip
def test_a_failure_is_one_line_and_an_exit_code(
    error: BaseException, code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert outcome(error, capsys) == (code, line)


def test_a_bug_is_raised() -> None:
    for bug in (ZeroDivisionError("x"), RuntimeError("shapes cannot be multiplied"), KeyError("x")):
        with pytest.raises(type(bug)):
            run_command(failing(bug), lambda: "")


def test_an_error_of_a_worker_is_its_last_line() -> None:
    text = "Caught OSError in worker.\nTraceback\n  File x\nPermissionError: [Errno 13] Permission denied: '/x.wav'"
    assert one_line(OSError(text)) == "Permission denied: '/x.wav'"
    text = "Caught InputError in DataLoader worker process 0.\nTraceback\ns3prl_vqpool.errors.InputError: x.wav: no."
    assert one_line(InputError(text)) == "x.wav: no."


def test_a_name_with_a_newline_is_named_whole() -> None:
    assert one_line(InputError("no\nsuch.wav: no such file.")) == r"no\nsuch.wav: no such file."


@pytest.mark.parametrize("where", ["2>/dev/full", "2>&-"])
def test_exit_code_does_not_depend_on_standard_error(where: str) -> None:
    code = "import sys; from s3prl_vqpool.errors import *; "
    code += "sys.exit(run_command(lambda: (_ for _ in ()).throw(InputError('no')), str))"
    assert subprocess.run(["bash", "-c", f'"{sys.executable}" -c "{code}" {where}']).returncode == 2
    assert one_line(InputError("ValueError: x: kept")) == "ValueError: x: kept"


def test_a_file_that_cannot_be_written_is_named_whatever_the_writer_raises(tmp_path: Path) -> None:
    path = tmp_path / "codebook.safetensors"
    for raised in (
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("[enforce fail] PytorchStreamWriter failed writing file data/0: file write failed"),
        ValueError("I/O error: No space left on device (os error 28)"),
    ):
        with pytest.raises(OSError, match=r"codebook\.safetensors") as refused, whole(path):
            raise raised
        assert refused.value.filename == str(path)
        assert refused.value.errno == errno.ENOSPC
    with pytest.raises(ZeroDivisionError), whole(path):
        raise ZeroDivisionError
    with pytest.raises(FileNotFoundError) as refused:
        write_text(tmp_path / "no" / "file", "")
    assert refused.value.filename == str(tmp_path / "no")


def test_warnings_for_developers_are_not_shown_and_filters_come_back(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def work() -> int:
        warnings.warn("torch.nn.utils.weight_norm is deprecated", FutureWarning, stacklevel=1)
        warnings.warn("This DataLoader will create 12 worker processes in total. Our ...", stacklevel=1)
        warnings.warn("for the user", UserWarning, stacklevel=1)
        return 0

    before = list(warnings.filters)
    with warnings.catch_warnings(record=True) as caught:
        assert run_command(work, lambda: "") == 0
    assert [str(each.message) for each in caught] == ["for the user"]
    assert warnings.filters == before


def test_signal_handlers_come_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    inside = []
    run_command(lambda: inside.append(signal.getsignal(signal.SIGTERM)) or 0, lambda: "")
    assert inside != [before[1]]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_full_closed_and_left_output(tmp_path: Path) -> None:
    listing = f"{VQPOOL} list poolings"
    full = shell(f"{listing} > /dev/full")
    assert (full.returncode, full.stderr) == (
        2, "error: standard output: No space left on device: free some space, or write elsewhere.\n",
    )  # fmt: skip
    closed = shell(f"{listing} >&-")
    assert (closed.returncode, closed.stderr) == (
        2, "error: standard output is closed: send it to a file, or to /dev/null.\n",
    )  # fmt: skip
    left = shell(f"set -o pipefail; {listing} | true")
    assert left.stderr == ""
    assert left.returncode == 0


def test_a_limit_of_file_size_is_one_line(tmp_path: Path) -> None:
    """As a full disk: the system refuses to write on."""
    ran = shell(f"ulimit -f 8; {VQPOOL} synthesise --output {tmp_path / 'corpora'} --tasks ic --size small")
    assert ran.returncode == 2
    (line,) = ran.stderr.splitlines()
    assert "File too large" in line


@pytest.mark.skipif(not Path("/sys/kernel").is_dir(), reason="no /sys, where nobody can make files")
def test_a_folder_that_cannot_be_written_to_is_one_line() -> None:
    ran = shell(f"{VQPOOL} synthesise --output /sys/kernel/corpora --tasks ic --size small")
    assert ran.returncode == 2
    (line,) = ran.stderr.splitlines()
    assert line.startswith("error: /sys/kernel/corpora: ")
    assert "Traceback" not in ran.stderr


def test_a_signal_says_which_checkpoint_continues(tmp_path: Path) -> None:
    argv = ["-m", "train", "-p", str(tmp_path), "-d", "vqpool_ks", "-o", "config.runner.total_steps=9"]
    assert run_downstream._where(argv).endswith("no checkpoint has been saved yet; run it again")
    for step in (90, 100):
        (tmp_path / f"states-{step}.ckpt").touch()
        os.utime(tmp_path / f"states-{step}.ckpt", (step, step))
    assert run_downstream._where(argv).endswith(
        f"the same command with -a continues from {tmp_path}/states-100.ckpt"
    )
    assert run_downstream._where(["-m", "evaluate", "-e", str(tmp_path)]) == "run_downstream.py: run it again"


@pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_a_signal_amid_the_import_of_s3prl_is_one_line(
    number: int, code: int, word: str, tmp_path: Path
) -> None:
    started = subprocess.Popen(
        [sys.executable, str(ROOT / "run_downstream.py"), "-m", "train", "-n", "x"],
        cwd=tmp_path, env=ENVIRONMENT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    until = time.monotonic() + 60
    while "torch" not in Path(f"/proc/{started.pid}/maps").read_text() and time.monotonic() < until:
        time.sleep(0.05)
    started.send_signal(number)
    _, printed = started.communicate(timeout=60)
    assert started.returncode == code, printed
    assert printed == f"{word} in run_downstream.py: no checkpoint has been saved yet; run it again\n"


@pytest.mark.parametrize("take", [
    lambda: torch.empty(2**50), lambda: np.empty(2**50), lambda: bytearray(2**60), lambda: torch.nn.Linear(2**25, 2**25)
])  # fmt: skip
def test_too_little_memory_is_one_line(take: Callable[[], object], capsys: pytest.CaptureFixture) -> None:
    assert run_command(lambda: bool(take()), lambda: "") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: too little memory (")
