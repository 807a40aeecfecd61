"""The reader of Kaldi's float vectors: what kaldiio writes, and hundreds of damaged files, one line each."""

from __future__ import annotations

import functools
import os
import pickle
import random
import re
import resource
import struct
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import kaldiio
import numpy as np
import pytest

from s3prl_vqpool import cli
from s3prl_vqpool.errors import InputError
from s3prl_vqpool.store import ark
from s3prl_vqpool.store import vectors as written
from s3prl_vqpool.tables.clustering import sources

IDS = [f"speaker{k % 3}-utt{k:02}é" for k in range(12)]
VECTORS = np.random.default_rng(0).standard_normal((12, 6)).astype(np.float32)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@functools.cache
def entries(dtype: str = "<f4", text: bool = False) -> tuple[bytes, ...]:
    """Each entry of an archive that kaldiio writes."""
    made = []
    for key, vector in zip(IDS, VECTORS):
        kaldiio.save_ark("one.ark", {key: vector.astype(dtype)}, text=text)
        made.append(Path("one.ark").read_bytes())
    Path("one.ark").unlink()
    return tuple(made)


@pytest.mark.parametrize("dtype", ["<f4", "<f8"])
@pytest.mark.parametrize("text", [False, True])
def test_archives_of_kaldiio_are_read(dtype: str, text: bool) -> None:
    kaldiio.save_ark("v.ark", dict(zip(IDS, VECTORS.astype(dtype))), scp="v.scp", text=text)
    for name in ("v.ark", "v.scp"):
        ids, vectors = ark.read(Path(name))
        assert ids == IDS
        np.testing.assert_allclose(vectors, VECTORS, rtol=1e-6)
        if not text:
            assert vectors.dtype == dtype
            np.testing.assert_array_equal(vectors, VECTORS)


@pytest.mark.parametrize("text", [False, True])
def test_a_vector_may_have_a_single_number(text: bool) -> None:
    kaldiio.save_ark("v.ark", {"a": VECTORS[0, :1], "b": VECTORS[1, :1]}, text=text)
    ids, vectors = ark.read(Path("v.ark"))
    assert ids == ["a", "b"]
    np.testing.assert_allclose(vectors, VECTORS[:2, :1], rtol=1e-6)
    kaldiio.save_ark("v.ark", {"a": VECTORS[0, :0]}, text=text)
    with pytest.raises(InputError, match=r"^v\.ark: "):
        ark.read(Path("v.ark"))


def test_what_embed_writes_is_read() -> None:
    written.write(Path("v.ark"), IDS, VECTORS)
    for name in ("v.ark", "v.scp"):
        ids, vectors = ark.read(Path(name))
        assert ids == IDS
        np.testing.assert_array_equal(vectors, VECTORS)


def test_text_that_other_tools_write_is_read() -> None:
    Path("v.ark").write_text("a  [ 1 -2.5e-3 nan ]\n\nb [1\tinf 3 ] \r\nc [ .5 2. 3 ]")
    ids, vectors = ark.read(Path("v.ark"))
    assert ids == ["a", "b", "c"]
    np.testing.assert_array_equal(vectors, [[1, -0.0025, np.nan], [1, np.inf, 3], [0.5, 2, 3]])


def test_an_scp_may_mix_archives_orders_names_and_kinds() -> None:
    written.write(Path("a b.ark"), IDS, VECTORS)
    kaldiio.save_ark("d.ark", {"x": VECTORS[3].astype(float)}, scp="d.scp")
    lines = Path("a b.scp").read_text().splitlines()[::-1]
    one = Path("d.ark").read_bytes()[2:]  # a file of one vector, without a key
    Path("one.vec").write_bytes(one)
    Path("all.scp").write_text(
        "\n".join([lines[0], *Path("d.scp").read_text().split("\n"), "y\tone.vec", *lines[1:]])
    )
    ids, vectors = ark.read(Path("all.scp"))
    assert ids == [IDS[11], "x", "y", *IDS[10::-1]]
    np.testing.assert_array_equal(vectors, VECTORS[[11, 3, 3, *range(10, -1, -1)]])


def test_an_scp_of_many_files_keeps_none_of_them_open() -> None:
    for number in range(300):
        kaldiio.save_mat(f"{number}.vec", VECTORS[number % 12])
    Path("v.scp").write_text("".join(f"k{number} {number}.vec\n" for number in range(300)))
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, before[1]))
    try:
        vectors = ark.read(Path("v.scp"))[1]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    np.testing.assert_array_equal(vectors, np.tile(VECTORS, (25, 1)))


# ------------------------------------------------------------------------------------------------- damaged
Case = tuple[str, bytes]
CANARY = "canary"


class Harm:
    """Unpickled, it makes a file."""

    def __reduce__(self) -> tuple[Callable, tuple]:
        return os.mkdir, (CANARY,)


def cut(draw: random.Random) -> Case:
    made = entries(draw.choice(["<f4", "<f8"]))
    number = draw.randrange(len(made))
    return "v.ark", b"".join(made[:number]) + made[number][: draw.randrange(1, len(made[number]))]


def cut_text(draw: random.Random) -> Case:
    made = entries(text=True)
    number = draw.randrange(len(made))
    return "v.ark", b"".join(made[:number]) + made[number][: draw.randrange(1, len(made[number]) - 2)]


def header(draw: random.Random) -> Case:
    """One bit of a header is another."""
    made = [bytearray(each) for each in entries()]
    entry = draw.choice(made)
    at = len(IDS[0].encode()) + 1 + draw.randrange(10)
    entry[at] ^= 1 << draw.randrange(8)
    return "v.ark", b"".join(made)


def size(draw: random.Random) -> Case:
    made = list(entries())
    number = draw.randrange(len(made))
    count = draw.choice([0, -1, -(2**31), 5, 7, 2**31 - 1, 2**24, draw.randrange(8, 2**31)])
    at = len(IDS[0].encode()) + 7
    made[number] = made[number][:at] + struct.pack("<i", count) + made[number][at + 4 :]
    return "v.ark", b"".join(made)


def key(draw: random.Random) -> Case:
    made = list(entries())
    number = draw.randrange(1, len(made))
    name = len(IDS[0].encode())
    new = draw.choice(
        [
            b"",
            b"\xff\xfe",
            b"a\nb",
            b"a\tb",
            b"\x1b[31m",
            b"x" * 5000,
            IDS[0].encode(),
            b"\0",
            "a\u2028b".encode(),
        ]
    )
    made[number] = new + made[number][name:]
    return "v.ark", b"".join(made)


def kind(draw: random.Random) -> Case:
    """An entry that is no vector of floats."""
    other = draw.choice(
        [
            b"\0BFM \4" + struct.pack("<i", 1) + b"\4" + struct.pack("<i", 6) + bytes(24),
            b"\0BDM \4" + struct.pack("<i", 2**31 - 1) + b"\4" + struct.pack("<i", 2**31 - 1),
            b"\0BCM " + bytes(40),
            b"\0B\4" + struct.pack("<i", 6) + b"\4\1\0\0\0" * 6,
            b"PKL" + pickle.dumps(Harm()),
            b"NPY" + bytes(4) + b"\x93NUMPY",
            b"AUDIO" + bytes(20),
            b"RIFF" + bytes(40),
            b"fLaC" + bytes(40),
            b" [\n 1 2 3\n 4 5 6 ]\n",
            b" [ 1 2 3_0 4 5 6 ]\n",
            b" [ 1 2 x 4 5 6 ]\n",
            b" [ 1 2 [ 3 ] 5 6 ]\n",
            b" [ ]\n",
            b" 1 2 3 4 5 6\n",
            b"touch canary |\n",
        ]
    )
    made = entries()
    number = draw.randrange(len(made))
    return "v.ark", b"".join([*made[:number], b"new " + other, *made[number:]])


def other_file(draw: random.Random) -> Case:
    content = draw.choice(
        [
            b"",
            b"\n \n",
            draw.randbytes(draw.randrange(1, 3000)),
            b"version https://git-lfs.github.com/spec/v1\n",
            b"<!DOCTYPE html><html></html>",
            b"PK\3\4" + draw.randbytes(300),
            "schlüssel [ 1 2".encode("utf-16"),
            b"\x00" * 1000,
            b"x" * 100_000,
        ]
    )
    return draw.choice(["v.ark", "v.scp"]), content


def place(draw: random.Random) -> Case:
    """A line of an scp that leads to no vector."""
    written.write(Path("good.ark"), IDS, VECTORS)
    lines = Path("good.scp").read_text().splitlines()
    length = Path("good.ark").stat().st_size
    if not Path("fifo").exists():
        os.mkfifo("fifo")
    wrong = draw.choice(
        [
            "mkdir canary |",
            "| mkdir canary",
            "mkdir canary; cat good.ark |",
            "-",
            "",
            "good.ark:-5",
            f"good.ark:{length}",
            f"good.ark:{length + draw.randrange(1, 100)}",
            f"good.ark:{draw.randrange(1, 16)}",
            "good.ark:" + "9" * draw.randrange(15, 40),
            "good.ark:17[0:3]",
            "good.ark:x",
            "nowhere.ark:12",
            "../../../../etc/nowhere:1",
            ".",
            "/dev/zero",
            "/dev/stdin:0",
            "fifo",
            "good.ark:17 good.ark:17",
            "a\x1b[31m.ark:3",
            "a\0b:3",
            "x" * 5000,
            "good.scp:0",
        ]
    )
    number = draw.randrange(len(lines))
    lines[number] = f"{lines[number].split()[0]} {wrong}"
    return "v.scp", "\n".join(lines).encode()


def script(draw: random.Random) -> Case:
    """An scp that is wrong as a whole."""
    written.write(Path("good.ark"), IDS, VECTORS)
    lines = Path("good.scp").read_text().splitlines()
    number = draw.randrange(1, len(lines))
    how = draw.randrange(4)
    if how == 0:
        lines.append(lines[number])
    elif how == 1:
        lines = [f"k{k} {lines[0].split()[1]}" for k in range(100_000)]  # one place, again and again
    elif how == 2:
        return "v.scp", "\n".join(lines).encode() + draw.choice([b"\n\xff\xff a:1", b"\nkey"])
    else:
        kaldiio.save_ark("short.ark", {"s": VECTORS[0, :5]})
        lines[number] = "s short.ark:2"
    return "v.scp", "\n".join(lines).encode()


def nested(draw: random.Random) -> Case:
    """Headers one after the other, each of which claims all that follows."""
    count = 2000
    body = b"".join(b"\0BFV \4" + struct.pack("<i", 4 * count) for _ in range(count)) + bytes(16 * count)
    Path("nested.ark").write_bytes(b"k " + body)
    return "v.scp", "".join(f"k{k} nested.ark:{2 + 10 * k}\n" for k in range(count)).encode()


MAKERS: list[tuple[Callable[[random.Random], Case], int]] = [
    (cut, 60),
    (cut_text, 30),
    (header, 60),
    (size, 30),
    (key, 25),
    (kind, 40),
    (other_file, 25),
    (place, 45),
    (script, 12),
    (nested, 1),
]


def damaged() -> Iterator[tuple[str, Path]]:
    for make, count in MAKERS:
        for number in range(count):
            name, content = make(random.Random(f"{make.__name__} {number}"))
            Path(name).write_bytes(content)
            yield f"{make.__name__} {number}", Path(name)


def test_three_hundred_damaged_files_are_one_line_each() -> None:
    seen = 0
    for name, path in damaged():
        tracemalloc.start()
        with pytest.raises(InputError) as caught:
            sources.of_file(path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        line = str(caught.value)
        assert line.startswith(path.name), (name, line)
        assert line.isprintable(), (name, line)
        assert len(line) < 2000, (name, line)
        assert peak < 40e6, (name, peak)
        seen += 1
    assert seen >= 300
    assert not Path(CANARY).exists()


def test_any_bit_may_be_another() -> None:
    """Where only a number or a key is another, the rest is read as it was; anything else is one line."""
    content, draw = b"".join(entries()), random.Random(0)
    read = 0
    for _ in range(400):
        changed = bytearray(content)
        changed[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        Path("v.ark").write_bytes(changed)
        try:
            ids, vectors = ark.read(Path("v.ark"))
        except InputError:
            continue
        read += 1
        assert vectors.shape == VECTORS.shape
        differing = sum(a != b for a, b in zip(ids, IDS)) + int((vectors != VECTORS).sum())
        assert differing == 1
    assert 100 < read < 400


@pytest.mark.parametrize("number", range(0, 10))
def test_the_command_ends_with_one_line(number: int, capsys: pytest.CaptureFixture[str]) -> None:
    name, content = MAKERS[number][0](random.Random(f"{MAKERS[number][0].__name__} 0"))
    Path(name).write_bytes(content)
    given = ["cluster", "--vectors", name, "--method", "kmeans", "--clusters", "3", "--output", "out/utt2spk"]
    assert cli.main(given) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {name}")
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("v.scp", "a mkdir canary |\n", "v.scp, line 1: is a pipe, and no command of a list is run."),
        (
            "v.scp",
            "a good.ark:17\nb nowhere.ark:3\n",
            "v.scp, line 2: nowhere.ark: no such file; paths in an scp",
        ),
        ("v.scp", "a good.ark:9999\n", "good.ark: is cut: the vector of 'a' begins at byte 9,999, and"),
        ("v.scp", "a /dev/zero\n", "v.scp, line 1: /dev/zero: is no regular file"),
        ("v.scp", "a good.ark:20[0:2]\n", "v.scp, line 1: has a range"),
        (
            "v.ark",
            "a [ 1 2 ]\nb [ 1 2 3 ]\n",
            "v.ark: the vector of 'b' has 3 numbers, but that of 'a' has 2",
        ),
        ("v.ark", "a [ 1 2 ]\na [ 1 3 ]\n", "v.ark: the key 'a' comes twice"),
        ("v.ark", "a [ 1 2 ]\nb [ 1 ", "v.ark: 'b' is no vector of floats, or is cut"),
        (
            "v.ark",
            "a \0BFV \4\3\0\0\0abcd",
            "v.ark: is cut, or damaged: the vector of 'a' claims 12 bytes, and 4 are",
        ),
        ("v.ark", "a \0BFM \4\3\0\0\0abcd", "v.ark: 'a' is a matrix, expected a vector of floats"),
        ("v.ark", "a \0BFV", "v.ark: is cut within the header of 'a'"),
    ],
)
def test_lines_name_the_file_and_the_key(name: str, content: str, said: str) -> None:
    written.write(Path("good.ark"), IDS, VECTORS[:, :2])
    Path("good.scp").unlink()
    place = Path("good.ark").read_bytes().index(b"\0B")
    Path(name).write_text(content.replace("good.ark:17", f"good.ark:{place}"))
    with pytest.raises(InputError, match=re.escape(said)):
        ark.read(Path(name))
