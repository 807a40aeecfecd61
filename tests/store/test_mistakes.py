"""One line for each mistake, and nothing mixed or half-written."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from stores import of_an_earlier_version, overrides, tree

from s3prl_vqpool import cli
from s3prl_vqpool.corpora import Utterance
from s3prl_vqpool.errors import InputError
from s3prl_vqpool.store import Store, layout
from s3prl_vqpool.store import extract as filling
from s3prl_vqpool.store.index import gathered

Stores = Callable[[str], Store]
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def copy(stores: Stores, tmp_path: Path) -> Path:
    return Path(shutil.copytree(stores("large").folder, tmp_path / "copy"))


def error(capsys: pytest.CaptureFixture) -> str:
    return capsys.readouterr().err.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("kind", "options", "said"),
    [
        ("large", ["--poolings", "AP"], r"poolings \['VQ-LP', .*\], but now it is \['AP'\]"),
        ("base", ["--poolings", "AP"], "poolings"),
        ("mfcc", [], "upstream 'wav2vec2_vq_local', but now it is 'mfcc_vq'"),
        ("large", ["--precision", "bf16"], "precision 'float32', but now it is 'bf16'"),
    ],
)
def test_another_configuration_is_refused(
    kind: str, options: list[str], said: str, extract: Any, copy: Path, capsys: Any
) -> None:
    before = tree(copy)
    assert extract(kind, copy, *options) == 2
    assert tree(copy) == before
    line = error(capsys)
    assert f"error: {copy}: was begun with" in line
    assert re.search(said, line)


def test_another_checkpoint_is_refused(extract: Any, stores: Stores, copy: Path, capsys: Any) -> None:
    assert extract("base", copy, "--frames", "--poolings", *stores("large").manifest["poolings"]) == 2
    assert "was begun with fingerprint" in error(capsys)


def test_folder_of_other_things_is_refused(extract: Any, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "thesis.tex").write_text("")
    assert extract("mfcc", tmp_path) == 2
    assert "holds other files, but no store" in error(capsys)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_too_little_disk_is_found_before_the_first_byte(
    extract: Any, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout.shutil, "disk_usage", lambda _: Usage(10**6, 10**6 - 5000, 5000))
    assert extract("mfcc", tmp_path / "store") == 2
    assert re.search(r"store: needs \d\d\.\d kB, but the disk has 5 kB free: make room", error(capsys))
    assert not (tmp_path / "store").exists()


def test_disk_that_fills_up_is_one_line_and_leaves_no_temporary_file(
    extract: Any, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []

    def fsync(descriptor: int) -> None:
        written.append(descriptor)
        if len(written) == 4:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        assert extract("mfcc", tmp_path / "store") == 2
    assert "shard-00001.safetensors: cannot be written (No space left on device)" in error(capsys)
    assert set(tree(tmp_path / "store")) == {"manifest.json", "shard-00000.jsonl", "shard-00000.safetensors"}
    assert extract("mfcc", tmp_path / "store") == 0


@pytest.mark.parametrize("frames", [False, True])
@pytest.mark.parametrize("kind", ["mfcc", "base"])
def test_estimated_disk_is_what_is_written(kind: str, frames: bool, extract: Any, tmp_path: Path) -> None:
    assert extract(kind, tmp_path / "store", *(["--frames"] if frames else [])) == 0
    store = Store.open(tmp_path / "store")
    estimate = layout.disk_bytes(store.manifest, [u.length for u in store.utterances])
    written = sum(path.stat().st_size for path in (tmp_path / "store").glob("*") if path.suffix != ".json")
    assert written <= estimate + 1500 * store.manifest["shards"]
    assert written > 0.5 * estimate


def test_shards_that_hold_a_row_twice_do_not_belong_together(copy: Path) -> None:
    path, other = of_an_earlier_version(copy) / "shard-00001.jsonl", Store.open(copy).shards[0][0]
    first, *lines = path.read_text().splitlines()
    entries = [json.loads(line) for line in lines]
    entries[0]["row"] = other
    path.write_text("\n".join([first, *map(json.dumps, entries)]) + "\n")
    with pytest.raises(InputError, match="its shards do not belong together: remove it and extract again"):
        Store.open(copy)


def test_verify_finds_a_flipped_bit_and_extract_mends_it(extract: Any, copy: Path, capsys: Any) -> None:
    poolings = Store.open(copy).manifest["poolings"]
    before, damaged = tree(copy), copy / "shard-00002.safetensors"
    assert cli.main(["store", "verify", str(copy)]) == 0
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(content)
    capsys.readouterr()
    assert cli.main(["store", "verify", str(copy)]) == 1
    out = capsys.readouterr().out
    assert f"{damaged}: its bytes are not those that were written" in out
    assert "1 of " in out
    (copy / "shard-00002.jsonl").unlink()
    assert extract("large", copy, "--frames", "--poolings", *poolings) == 0
    assert tree(copy) == before


def test_verify_finds_a_changed_label_and_extract_mends_it(extract: Any, copy: Path, capsys: Any) -> None:
    poolings = Store.open(copy).manifest["poolings"]
    before, index = tree(copy), copy / "shard-00001.jsonl"
    index.write_text(index.read_text().replace('"label": [0, 0, 0]', '"label": [1, 0, 0]', 1))
    assert tree(copy) != before
    assert extract("large", copy, "--frames", "--poolings", *poolings) == 0  # does not make it right
    capsys.readouterr()
    assert cli.main(["store", "verify", str(copy)]) == 1
    assert (
        f"{index}: its bytes are not those that were written; remove {index}, and" in capsys.readouterr().out
    )
    index.unlink()
    assert extract("large", copy, "--frames", "--poolings", *poolings) == 0
    assert tree(copy) == before


def test_shard_that_is_made_again_with_other_rounding_is_verified(
    extract: Any, copy: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    poolings = Store.open(copy).manifest["poolings"]
    vectors, codes = Store.open(copy).vectors("VQ-LP"), Store.open(copy).codes(0)
    joined = filling._joined
    monkeypatch.setattr(
        filling,
        "_joined",
        lambda *given: {k: v * (1 + 3e-7) if v.is_floating_point() else v for k, v in joined(*given).items()},
    )
    (copy / "shard-00000.jsonl").unlink()
    assert extract("large", copy, "--frames", "--poolings", *poolings) == 0
    assert cli.main(["store", "verify", str(copy)]) == 0
    mended = Store.open(copy)
    assert not torch.equal(mended.vectors("VQ-LP"), vectors)
    torch.testing.assert_close(mended.vectors("VQ-LP"), vectors, rtol=1e-6, atol=1e-7)
    assert torch.equal(mended.codes(0), codes)


def test_store_of_another_version_goes_on_and_other_formats_do_not(
    extract: Any, copy: Path, capsys: Any
) -> None:
    poolings = Store.open(copy).manifest["poolings"]
    before = tree(copy)
    content = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps({**content, "version": "0.0.9"}))
    (copy / "shard-00001.jsonl").unlink()
    assert extract("large", copy, "--frames", "--poolings", *poolings) == 0
    assert {**tree(copy), "manifest.json": ""} == {**before, "manifest.json": ""}
    (copy / "manifest.json").write_text(json.dumps({**content, "format": 0}))
    assert extract("large", copy, "--frames", "--poolings", *poolings) == 2
    assert "was begun with format 0, but now it is 1" in error(capsys)


@pytest.mark.parametrize("keep", [0, 40, -1], ids=["empty", "first line", "last line"])
@pytest.mark.parametrize("name", ["shard-00001.jsonl", "done.json"])
def test_truncated_file_is_made_again_without_the_rest(
    name: str, keep: int, extract: Any, copy: Path, capsys: Any
) -> None:
    poolings = Store.open(copy).manifest["poolings"]
    before, path = tree(copy), copy / name
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines)[:keep] if keep >= 0 else "".join(lines[:-1]))
    times = {each.name: each.stat().st_mtime_ns for each in copy.glob("*.safetensors")}
    capsys.readouterr()
    argv = ["store", "verify", str(copy)]
    if name == "done.json":
        assert cli.main(argv) == 2
        assert f"{path}: missing, or cannot be read: remove {path}, and the same vqpool extract" in error(
            capsys
        )
    else:
        assert cli.main(argv) == 1
        assert (
            f"{path}: its bytes are not those that were written; remove {path}, and the same vqpool extract"
            in (capsys.readouterr().out)
        )
        with pytest.raises(
            InputError, match=rf"{path}: missing, or cannot be read: remove {path}, and the same"
        ):
            gathered(copy, Store.open(copy).manifest)
    path.unlink()
    if name != "done.json":
        with pytest.raises(
            InputError, match=rf"{path}: missing, or cannot be read: remove {path}, and the same"
        ):
            Store.open(copy)
    assert extract("large", copy, "--frames", "--poolings", *poolings) == 0
    assert tree(copy) == before
    rewritten = {n for n, time in times.items() if (copy / n).stat().st_mtime_ns != time}
    assert rewritten == ({"shard-00001.safetensors"} if name != "done.json" else set())


def test_damaged_done_json_is_written_again_by_extract(extract: Any, copy: Path, capsys: Any) -> None:
    poolings, before = Store.open(copy).manifest["poolings"], tree(copy)
    (copy / "done.json").write_text('{"shards": [')
    assert extract("large", copy, "--frames", "--poolings", *poolings) == 0
    assert "is complete" in capsys.readouterr().out
    assert tree(copy) == before


def test_info_says_what_is_there(stores: Stores, capsys: Any) -> None:
    assert cli.main(["store", "info", str(stores("mfcc").folder)]) == 0
    out = capsys.readouterr().out
    assert "12 utterances of vqpool_ic, 0.00 h of speech" in out
    folder = stores("mfcc").folder
    size = sum(path.stat().st_size for path in folder.iterdir())
    assert f"\n{layout.in_words(size)} in {len(list(folder.glob('shard-*.jsonl')))} shards\n" in out
    assert "codebook_sizes    64, 64" in out


def test_incomplete_store_says_how_to_continue(copy: Path, stores: Stores) -> None:
    (copy / "done.json").unlink()
    (copy / "shard-00001.jsonl").unlink()
    count = stores("large").manifest["shards"]
    with pytest.raises(
        InputError, match=rf"{count - 1} of {count} shards are there: the same vqpool extract -u"
    ):
        Store.open(copy)
    with pytest.raises(InputError, match="no store: make one with vqpool extract"):
        Store.open(copy / "nothing")


def test_what_is_not_stored_is_named(extract: Any, stores: Stores, tmp_path: Path) -> None:
    store = stores("mfcc")
    known = store.utterances[0]
    listed = [Utterance(known.path, (0,), "x"), Utterance(Path("/elsewhere.wav"), (0,), "y")]
    with pytest.raises(InputError, match=r"^/elsewhere\.wav: not in .*, which was extracted from "):
        store.rows(listed)
    with pytest.raises(InputError, match=r"\(100 samples from 0\): not in"):
        store.rows([Utterance(known.path, (0,), "x", start=0, frames=100)])
    with pytest.raises(InputError, match=r"Unknown pooling in .*: 'VQ-LPP'. Did you mean VQ-LP"):
        store.vectors("VQ-LPP")
    assert extract("mfcc", tmp_path / "store") == 0
    with pytest.raises(InputError, match="extracted without --frames"):
        Store.open(tmp_path / "store").frames(0)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--poolings", "VQ-GP"], "VQ-GP: needs counts of the training split's codes, so it comes after"),
        (["--poolings", "SAP"], "SAP: is learned with a head"),
        (["--poolings", "VQ-LQ"], "Unknown pooling 'VQ-LQ'. Did you mean VQ-LP"),
        (["--device", "tpu"], "--device tpu: torch knows no such device"),
        (["-u", "mfcc"], "Unknown upstream with codes 'mfcc'. Did you mean mfcc_vq"),
        (["-d", "vqpool_sk"], "Unknown downstream 'vqpool_sk'. Did you mean vqpool_ks"),
        (["-o", "args.upstream=x"], "only config.SECTION.KEY=VALUE can be used here"),
        (["-o", "config.optimizer.name.x=1"], "name is not a section of the config"),
    ],
)
def test_mistakes_on_the_command_line(
    options: list[str], said: str, extract: Any, tmp_path: Path, capsys: Any
) -> None:
    assert extract("mfcc", tmp_path / "store", *options) == 2
    assert said in error(capsys)
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("workers", [0, 1])
def test_damaged_audio_is_one_line(
    workers: int, datarc: dict[str, Any], tmp_path: Path, capsys: Any, upstreams: dict[str, list[str]]
) -> None:
    root = Path(shutil.copytree(datarc["file_path"], tmp_path / "corpus"))
    path = root / "wavs" / "valid1.wav"
    path.write_bytes(path.read_bytes()[:9000])
    corpus = overrides({"file_path": root, "num_workers": workers})
    command = ["extract", *upstreams["mfcc"], "-d", "vqpool_ic", *corpus, "--store", str(tmp_path / "store")]
    assert cli.main(command) == 2
    assert f"error: {path}: truncated or damaged" in error(capsys)
