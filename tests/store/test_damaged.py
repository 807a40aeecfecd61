"""Every JSON file of a store, damaged in many ways: one line each, from whatever reads it; never a traceback."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from stores import of_an_earlier_version

from s3prl_vqpool import cli
from s3prl_vqpool.errors import InputError
from s3prl_vqpool.store import Store, verify

JUNK: tuple[Any, ...] = (
    None, True, -1, 0, 3, 2**62, 10**25, 1.5, float("nan"), float("inf"), "", "x", "../x", "a\0b", "\udcff", [], [[]],
    [None], {}, {"a": {}}, [1, "x"], {"file": 3},
)  # fmt: skip
DAMAGED = 240


def places(content: Any) -> Iterator[tuple[Any, Any]]:
    """(container, key) of every value in a JSON content."""
    entries = content.items() if isinstance(content, dict) else enumerate(content)
    for key, value in list(entries):
        yield content, key
        if isinstance(value, (dict, list)):
            yield from places(value)


def damage(text: str, chosen: random.Random) -> str:
    """A text of JSON lines with one thing wrong."""
    if chosen.random() < 0.2:
        at = chosen.randrange(len(text))
        return chosen.choice(
            [text[:at], text[:at] + "[" * 100_000, text[:at] + "\x00\xff" + text[at + 2 :], "", "7"]
        )
    try:
        lines = [json.loads(text)]
    except ValueError:
        lines = [json.loads(line) for line in text.splitlines()]
    container, key = chosen.choice(list(places(lines)))
    if chosen.random() < 0.3 and isinstance(container, dict):
        del container[key]
    else:
        container[key] = chosen.choice(JUNK)
    return "".join(f"{json.dumps(line)}\n" for line in lines)


def use(folder: Path) -> None:
    """What readers do with a store."""
    store = Store.open(folder)
    list(verify.info(store))
    list(verify.damaged(store))
    verify.files(store)
    for name in store.poolings:
        store.vectors(name)
    for row in range(len(store.utterances)):
        store.codes(row)
        store.frames(row)
    store.require_audio()


def outcome(folder: Path) -> str | None:
    """What is said where a store cannot be used."""
    try:
        use(folder)
    except InputError as error:
        return str(error)
    return None


@pytest.fixture(scope="module")
def whole(extract: Callable[..., int], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("damaged") / "store"
    assert extract("mfcc", folder, "--frames") == 0
    assert cli.main(["store", "add-pooling", str(folder), "VQ-GP"]) == 0
    use(folder)
    return folder


def test_a_damaged_file_is_one_line(
    whole: Path, extract: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen, refused = random.Random(0), 0
    names = sorted(path.name for path in whole.iterdir() if path.suffix in (".json", ".jsonl"))
    names += ["manifest.json", "done.json"] * 3
    for number in range(DAMAGED):
        copied = Path(shutil.copytree(whole, tmp_path / str(number)))
        if number % 2:
            of_an_earlier_version(copied)
        path = copied / chosen.choice(names)
        path.write_text(damage(path.read_text(), chosen), encoding="utf-8", errors="surrogatepass")
        said = outcome(copied)
        refused += said is not None
        assert "\n" not in (said or ""), path.read_text()
        if path.suffix == ".jsonl" and number % 2 == 0:  # only verify reads it
            assert said is None
            refused += bool(list(verify.damaged(Store.open(copied))))
        if number % 12 == 0:
            capsys.readouterr()
            for argv in (["verify"], ["add-pooling", "VQ-BP"], ["info"]):
                code = cli.main(["store", argv[0], str(copied), *argv[1:]])
                assert code in (0, 1, 2)
            assert extract("mfcc", copied, "--frames") in (0, 2)
        shutil.rmtree(copied)
    assert refused > DAMAGED / 2


def damaged_columns(columns: dict[str, torch.Tensor], chosen: random.Random) -> dict[str, torch.Tensor]:
    """The columns of `rows.safetensors` with one thing wrong."""
    name = chosen.choice(sorted(columns))
    column = columns[name].clone()
    others = {key: each for key, each in columns.items() if key != name}
    kind = chosen.choice(["value"] * 5 + ["dtype", "length", "flat", "gone"])
    if kind == "gone":
        return others
    if kind == "value":
        least = torch.iinfo(column.dtype).min
        junk = (0, 1, 2, 255) if column.dtype == torch.uint8 else (-(2**40), -1, 0, 1, 7, 2**40, 2**62, least)
        column.view(-1)[chosen.randrange(column.numel())] = chosen.choice(junk)
    changed = {"value": column, "dtype": column.float(), "length": column[:-1].clone(), "flat": column[None]}
    return {**others, name: changed[kind]}


def test_damaged_rows_are_one_line(whole: Path, extract: Callable[..., int], tmp_path: Path) -> None:
    from safetensors.torch import load, save_file

    chosen, refused = random.Random(0), 0
    copied = Path(shutil.copytree(whole, tmp_path / "store"))
    path, content = copied / "rows.safetensors", (whole / "rows.safetensors").read_bytes()
    for number in range(DAMAGED):
        if number % 3:
            save_file(damaged_columns(load(content), chosen), path)
        else:
            at = chosen.randrange(len(content))
            path.write_bytes(chosen.choice([content[:at], content[:at] + b"\xff" + content[at + 1 :], b""]))
        changed = path.read_bytes() != content
        said = outcome(copied)
        refused += said is not None
        assert "\n" not in (said or "")
        assert bool(list(verify.damaged(opened_well(copied, whole)))) == changed
    assert refused > DAMAGED / 2
    assert extract("mfcc", copied, "--frames") == 0
    assert path.read_bytes() == content


def opened_well(copied: Path, whole: Path) -> Store:
    """The store, opened with the rows that it should have."""
    store = Store.open(whole)
    store.folder = copied
    return store


def test_tensors_of_another_shape_are_damaged(whole: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    copied = Path(shutil.copytree(whole, tmp_path / "store"))
    path = copied / "shard-00000.safetensors"
    tensors = load_file(path)
    for name in tensors:
        save_file({**tensors, name: torch.zeros(2, 2, 2)}, path)
        with pytest.raises(InputError, match=r"shard-00000\.safetensors: damaged: vqpool store verify"):
            use(copied)
        save_file({key: value for key, value in tensors.items() if key != name}, path)
        with pytest.raises(InputError, match=r"shard-00000\.safetensors: damaged: vqpool store verify"):
            use(copied)


@pytest.mark.parametrize(
    ("key", "value"),
    [(key, 0) for key in ("utterances", "samples", "layers", "dim", "downsample_rate", "threads", "shards")]
    + [("batch_seconds", 0), ("batch_seconds", -0.5), ("threads", 2**20 + 1), ("codebook_sizes", [0])],
)
def test_numbers_beyond_what_a_store_can_have_are_refused(
    key: str, value: Any, stores: Callable[[str], Store], tmp_path: Path
) -> None:
    folder = tmp_path / "store"
    shutil.copytree(stores("mfcc").folder, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert key in manifest
    (folder / "manifest.json").write_text(json.dumps({**manifest, key: value}))
    with pytest.raises(InputError, match=r"manifest\.json"):
        Store.open(folder)
