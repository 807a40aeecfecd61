"""Mistakes in tables: each is one line that names row and file, also in 300 tables that were damaged at random."""

from __future__ import annotations

import csv
import io
import json
import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from corpus_folders import refused, tone, wav
from tables import HEADER, ROWS, audio, load, text, write

from s3prl_vqpool.errors import InputError

TABLE = text()


def changed(before: str, after: str) -> str:
    assert before in TABLE
    return TABLE.replace(before, after, 1)


TIMED = ("path", "label", "split", "start", "end")


def timed(start: object, end: object) -> str:
    return text(TIMED, [(*ROWS[0][:3], start, end), *((*row[:3], "", "") for row in ROWS[1:])])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", ": has no utterance. Expected a table with a header, such as path,label,split."),
        ("path,label,split\n", ": has no utterance. Expected a table with a header, such as path,label,split."),
        (b"\xff\xfep\x00", ": not UTF-8 text (invalid start byte at byte 0). Expected a table with a header, "),
        (TABLE.replace("label", "labels"), ": no column 'label'. It has: path, labels, split. Give the name of its "),
        (TABLE.replace("split", "label", 1), ": has the column 'label' twice. Rename one."),
        (TABLE.replace(",", ";"), ": no column 'path'. It has: path;label;split. Give the name of its path column: "),
        (TABLE[:-6], ", line 7: has 2 cells, but the header has 3. Complete the line, or quote what holds a "),
        (changed("a/2.wav,no", "a/2.wav,"), ", line 3: no label. Fill the cell, or take the row out."),
        (changed("a/2.wav", ""), ", line 3: no path. Fill the cell, or take the row out."),
        (changed("dev", "eval"), ", line 4: split 'eval' is not one of train, test, dev, valid, validation, val, "),
        (changed("a/2.wav,no", '"a/2.wav,no'), ", line 7: malformed (unexpected end of data). Expected a table with "),
        (changed("a/2.wav", "a/1.wav"), ", line 3: the id 'a/1' is that of line 2 too. Give each utterance its own "),
        (changed("a/2.wav", "a/\x00.wav"), ", line 3: path 'a/\\x00.wav' holds a control character. Take it out."),
        (timed("x", ""), ", line 2: start 'x' is not a number. Correct the cell."),
        (timed("", "1_0"), ", line 2: end '1_0' is not a number. Correct the cell."),
        (timed("nan", ""), ", line 2: start 'nan' is not a number. Correct the cell."),
        (timed(-0.1, 0.05), ", line 2: start -0.1 is before the file begins. Correct the cell."),
        (timed(0.05, 0.05), ", line 2: end 0.05 is not after start 0.05. Correct the row."),
        (timed(0.05, 0.06), ", line 2: a segment of 0.01 s, less than one frame of 25 ms. Take it out."),
        (timed(0.05, 0.2), ", line 2: ends at 0.2 s, but {folder}/a/1.wav has 0.1 s. Correct the row."),
        (timed(7, ""), ", line 2: ends at 7 s, but {folder}/a/1.wav has 0.1 s. Correct the row."),
        (text((*HEADER[:3], "weight"), [(*row[:3], "-1") for row in ROWS]), ", line 2: weight -1: expected a number "),
        (TABLE.replace("dev", "train"), ": the dev split is empty. Check the corpus folder and its lists."),
        (TABLE.replace("c/2.wav,no", "c/2.wav,maybe"), ", line 7: the label 'maybe' is in test, but not in train. "),
        (TABLE.replace("c/2.wav,no", "c/2.wav,yes"), ": test has no utterance of no (1 of 2 classes). Fetch "),
    ],
)  # fmt: skip
def test_mistake_is_one_line_with_the_row(content: str | bytes, message: str, tmp_path: Path) -> None:
    table = write(audio(tmp_path), content)
    with pytest.raises(InputError) as caught:
        load(table)
    assert str(caught.value).startswith(f"{table}{message}".replace("{folder}", str(tmp_path)))
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"path": "a/1.wav", ', "malformed JSON (Expecting property name enclosed in double quotes)."),
        ("[1]", "Expected a JSON object on each line, such as "),
        ('{"path": "a/1.wav", "label": ["x"], "split": "train"}', "'label' is not a text or a number. Write one "),
        ('{"path": "a/1.wav", "path": "b", "split": "train"}', "malformed JSON (a name comes twice). Expected a "),
        ('{"path": "a/1.wav", "label": "\\ud800", "split": "train"}', "label '\\ud800' holds a control character."),
        ('{"path": "a/1.wav", "split": "train"}', "no label. Fill the cell, or take the row out."),
        ("[" * 100_000, "malformed JSON (maximum recursion depth exceeded"),
    ],
    ids=str,
)  # fmt: skip
def test_mistake_in_json_lines_is_one_line_with_the_row(line: str, message: str, tmp_path: Path) -> None:
    rows = [json.dumps(dict(zip(HEADER[:3], row))) for row in ROWS]
    table = write(audio(tmp_path), "\n".join([*rows[1:], line]), "own.jsonl")
    with pytest.raises(InputError) as caught:
        load(table)
    assert str(caught.value).startswith(f"{table}, line 6: {message}")


def test_files_that_are_missing_are_counted(tmp_path: Path) -> None:
    table = write(audio(tmp_path), TABLE.replace("b/", "gone/"))
    with refused(
        table, f", line 4, path: {tmp_path}/gone/1.wav does not exist (2 of 6 files are missing). Check datarc.root, "
        "or fetch the corpus again."
    ):  # fmt: skip
        load(table)


def test_audio_is_in_one_split_also_in_segments(tmp_path: Path) -> None:
    wav(tmp_path / "long.wav", tone(1.0))
    audio(tmp_path)

    def table(*segments: tuple[str, str, object, object]) -> Path:
        rows = [("long.wav", *segment) for segment in segments]
        return write(tmp_path, text(TIMED, [*((*row[:3], "", "") for row in ROWS), *rows]))

    shared = " Take one of them out, or allow it: datarc.allow_shared_audio: true."
    apart = table(("yes", "train", 0.5, 1), ("yes", "test", 0, 0.5), ("no", "train", 0.6, 0.8))
    assert len(load(apart).splits["train"]) == 4, "overlap within a split is allowed"
    for segments in (
        [("yes", "dev", 0, 0.5), ("yes", "test", 0.4, 0.9)],
        [("yes", "dev", 0, 0.9), ("yes", "dev", 0.1, 0.2), ("no", "test", 0.3, 0.4)],
        [("yes", "dev", "", ""), ("yes", "test", 0.4, 0.9)],
    ):
        path = table(*segments)
        here = f"{path}, line {len(segments) + 7}: {tmp_path}/long.wav is in test here"
        with refused(f"{here} and in dev in {path}, line 8.{shared}"):
            load(path)
        assert load(path, allow_shared_audio=True)


def test_same_audio_with_two_labels_is_refused(tmp_path: Path) -> None:
    rows = [(*row[:3], f"u{k}") for k, row in enumerate(ROWS)]
    table = write(audio(tmp_path), text((*HEADER[:3], "id"), [*rows, ("./a/1.wav", "no", "train", "u9")]))
    with refused(table, ", line 8: the same audio as in line 2 with another label. Take one of the two out."):
        load(table)


@pytest.mark.parametrize("name", ["gone.csv", "own.xlsx", "own.parquet", "empty"])
def test_what_is_no_table_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "own.xlsx").write_text("PK")
    (tmp_path / "own.parquet").write_bytes(b"PAR1")
    with pytest.raises(
        InputError, match=f"^{tmp_path / name}: (no such file|not a table|not Parquet|holds no audio)"
    ):
        load(tmp_path / name)


def refusal_of(table: Path) -> str | None:
    try:
        load(table)
    except InputError as error:
        return str(error)
    return None


def damages(content: bytes, rng: random.Random) -> bytes:
    """The table cut, with bytes replaced, taken out or repeated, or with strange pieces put in."""
    for _ in range(rng.randint(1, 3)):
        at, size = rng.randrange(len(content) + 1), rng.randint(1, 12)
        strange = rng.choice(
            [b"\x00", b'"', b"\r", b"\n", b",", b"\xff", b"-1", b"1e400", "\u2028".encode(), b"..", b"/"]
        )
        content = rng.choice(
            [
                content[:at],
                content[:at] + content[at + size :],
                content[:at] + bytes(rng.randrange(256) for _ in range(size)) + content[at + size :],
                content[:at] + content[at : at + size] * 2 + content[at + size :],
                content[:at] + strange + content[at:],
            ]
        )  # fmt: skip
    return content


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_damaged_tables_give_a_corpus_or_one_line(kind: str, tmp_path: Path) -> None:
    columns = (*TIMED, "weight", "id")
    rows = [(*row[:3], "0.01", "0.09", k + 1, f"u{k}") for k, row in enumerate(ROWS)]
    audio(tmp_path)
    if kind == "parquet":
        pandas = pytest.importorskip("pandas")
        pytest.importorskip("pyarrow")
        pandas.DataFrame(rows, columns=columns).to_parquet(tmp_path / "whole")
        whole = (tmp_path / "whole").read_bytes()
    elif kind == "jsonl":
        whole = "".join(json.dumps(dict(zip(columns, row))) + "\n" for row in rows).encode()
    else:
        whole = text(columns, rows, "," if kind == "csv" else "\t").encode()
    load(write(tmp_path, whole, f"own.{kind}"))
    rng, refusals = random.Random(0), 0
    for _ in range(300):
        table = write(tmp_path, damages(whole, rng), f"own.{kind}")
        refusal = refusal_of(table)
        assert refusal is None or refusal.startswith(str(tmp_path)), "which file"
        assert refusal is None or len(refusal.splitlines()) == 1
        refusals += refusal is not None
    assert refusals > 150


Mistake = Callable[[list[dict[str, str]], int, random.Random], str]


def cell(column: str, value: str, message: str) -> Mistake:
    """A cell with a value that cannot be."""

    def mistake(rows: list[dict[str, str]], k: int, rng: random.Random) -> str:
        rows[k][column] = value
        return message

    return mistake


def same_id(rows: list[dict[str, str]], k: int, rng: random.Random) -> str:
    rows[k]["id"] = rows[rng.randrange(k)]["id"]
    return f"the id {rows[k]['id']!r} is that of "


def label_alone(rows: list[dict[str, str]], k: int, rng: random.Random) -> str:
    rows[k] |= {"label": "rare", "split": rng.choice(["dev", "test"])}
    return f"the label 'rare' is in {rows[k]['split']}, but not in train."


def overlap(rows: list[dict[str, str]], k: int, rng: random.Random) -> str:
    """The audio of the utterance with the same label in another split, from a little later on."""
    rows[k] |= {"path": rows[(k + 2) % 6]["path"], "start": "0.03"}
    return f" is in {rows[k]['split']} here and in {rows[(k + 2) % 6]['split']} in "


def no_file(rows: list[dict[str, str]], k: int, rng: random.Random) -> str:
    rows[k]["path"] = f"{rng.randrange(10**6)}.wav"
    return f"{rows[k]['path']} does not exist (1 of 6 files are missing)."


MISTAKES: dict[str, Mistake] = {
    "no label": cell("label", "", "no label."),
    "no path": cell("path", "", "no path."),
    "control character": cell("label", "a\x07b", "holds a control character."),
    "unknown split": cell("split", "eval", "split 'eval' is not one of "),
    "no split": cell("split", "", "split '' is not one of "),
    "no number": cell("start", "1,5", "start '1,5' is not a number."),
    "before the file": cell("start", "-0.5", "start -0.5 is before the file begins."),
    "before start": cell("end", "0.005", "end 0.005 is not after start 0.01."),
    "after the file": cell("end", "0.5", "ends at 0.5 s, but "),
    "weight": cell("weight", "0", "weight 0: expected a number above 0."),
    "same id": same_id,
    "label alone": label_alone,
    "overlap": overlap,
    "no file": no_file,
}


def saved(rows: list[dict[str, str]], kind: str, folder: Path) -> tuple[Path, int]:
    """The table as a file, and the number of its first row in messages."""
    if kind == "parquet":
        pandas = pytest.importorskip("pandas")
        pytest.importorskip("pyarrow")
        pandas.DataFrame(rows).to_parquet(folder / "own.parquet")
        return folder / "own.parquet", 1
    if kind == "jsonl":
        return write(folder, "".join(json.dumps(row) + "\n" for row in rows), "own.jsonl"), 1
    written = io.StringIO()
    writer = csv.DictWriter(
        written, list(rows[0]), delimiter="," if kind == "csv" else "\t", lineterminator="\n"
    )
    writer.writeheader()
    writer.writerows(rows)
    return write(folder, written.getvalue(), f"own.{kind}"), 2


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_each_of_300_mistakes_is_one_line_with_its_row_and_file(kind: str, tmp_path: Path) -> None:
    """Every mistake in rows drawn at random, 300 in the four formats together."""
    audio(tmp_path)
    rng, columns = random.Random(1), (*TIMED, "weight", "id")
    good = [dict(zip(columns, (*row[:3], "0.01", "0.09", str(k + 1), f"u{k}"))) for k, row in enumerate(ROWS)]
    assert load(saved(good, kind, tmp_path)[0])
    for number in range(75):
        rows, k = [dict(row) for row in good], rng.randrange(1, 6)
        name = list(MISTAKES)[number % len(MISTAKES)]
        said = MISTAKES[name](rows, k, rng)
        table, first = saved(rows, kind, tmp_path)
        refusal = refusal_of(table) or "no mistake was found"
        assert refusal.startswith(f"{table}, {'row' if kind == 'parquet' else 'line'} {k + first}"), (
            name,
            refusal,
        )
        assert said in refusal
        assert len(refusal.splitlines()) == 1


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl"])
@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "cp1251"])
def test_another_encoding_is_said_with_the_place(kind: str, encoding: str, tmp_path: Path) -> None:
    written = "\u0434\u0430" if encoding == "cp1251" else "\u00e9t\u00e9"
    rows = [dict(zip(HEADER[:3], (row[0], row[1].replace("yes", written), row[2]))) for row in ROWS]
    table, _ = saved(rows, kind, audio(tmp_path))
    text = table.read_text("utf-8").encode().decode("unicode_escape" if kind == "jsonl" else "utf-8")
    table.write_bytes(text.encode(encoding))
    with pytest.raises(InputError, match=rf"^{re.escape(str(table))}: not UTF-8 text \(.* at byte \d+\)"):
        load(table)
