"""`vqpool store add-pooling`: numbers, kills, and what is refused."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import s3prl_vqpool  # noqa: F401 (S3PRL's own modules import after it on every stack)

# isort: split
import pooling_loops
import pytest
import soundfile
import torch
from s3prl import hub
from safetensors.torch import load_file, save_file
from stores import overrides, tree
from test_interruptions import killed_in_write
from torch import Tensor
from torch.testing import assert_close

from s3prl_vqpool import cli, files
from s3prl_vqpool.corpora import audio
from s3prl_vqpool.errors import InputError
from s3prl_vqpool.pooling import Counts
from s3prl_vqpool.pooling.files import read_identity
from s3prl_vqpool.runner import statistics
from s3prl_vqpool.store import Store
from s3prl_vqpool.store.files import STATISTICS, Writer

KINDS = ("mfcc", "large", "base")
ADDED = ("VQ-SIF", "VQ-GP", "VQ-BP", "VQ-Squash-OR")
TRAINING = range(4)
Stores = Callable[[str], Store]
Upstreams = dict[str, list[str]]


def add(folder: Path, *options: str) -> int:
    return cli.main(["store", "add-pooling", str(folder), *options])


def error(capsys: pytest.CaptureFixture) -> str:
    return capsys.readouterr().err.strip().splitlines()[-1]


@pytest.fixture(scope="session")
def bare(extract: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`bare(kind)`: a store without frames; made once."""
    made: dict[str, Path] = {}

    def bare(kind: str) -> Path:
        if kind not in made:
            made[kind] = tmp_path_factory.mktemp("bare") / kind
            assert extract(kind, made[kind], "--poolings", "VQ-LP") == 0
        return made[kind]

    return bare


@pytest.fixture
def copy(bare: Callable[[str], Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(bare("large"), tmp_path / "copy"))


@pytest.fixture(scope="session")
def complete(bare: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of `copy` after an uninterrupted `add-pooling`."""
    folder = Path(shutil.copytree(bare("large"), tmp_path_factory.mktemp("complete") / "store"))
    assert add(folder, "VQ-BP", "VQ-SIF") == 0
    return folder


def upstream_of(options: list[str]) -> Any:
    _, name, *rest = options
    return getattr(hub, name)(ckpt=rest[1] if rest else None).eval()


@torch.no_grad()
def alone(upstream: Any, store: Store, row: int) -> tuple[list[tuple[int, ...]], Tensor]:
    """Codes, and layers [layers, T, D], of an utterance in a batch of its own."""
    result = upstream([torch.from_numpy(audio.read(store.utterances[row].path))])
    codes = [tuple(code) for code in result["codes"][0].tolist()]
    return codes, torch.cat(result["hidden_states"])


def same(folder: Path, other: Path) -> None:
    """The files have the same bytes; of the statistics, whose metadata come in any order, the same content."""
    mine, theirs = tree(folder), tree(other)
    assert (mine.pop(STATISTICS, None) is None) == (theirs.pop(STATISTICS, None) is None)
    assert mine == theirs
    if (folder / STATISTICS).exists():
        assert read_identity(folder / STATISTICS) == read_identity(other / STATISTICS)
        loaded = [Counts.load(each / STATISTICS) for each in (folder, other)]
        assert torch.equal(loaded[0].tuples, loaded[1].tuples)
        assert torch.equal(loaded[0].occurrences, loaded[1].occurrences)


@pytest.mark.parametrize("frames", [False, True], ids=["bare", "frames"])
@pytest.mark.parametrize("kind", KINDS)
def test_added_vectors_are_those_of_one_utterance_at_a_time(
    kind: str,
    frames: bool,
    stores: Stores,
    bare: Callable[[str], Path],
    upstreams: Upstreams,
    tmp_path: Path,
    capsys: Any,
) -> None:
    before = stores(kind).folder if frames else bare(kind)
    folder = Path(shutil.copytree(before, tmp_path / "store"))
    assert add(folder, *ADDED, "--option", "a=0.02") == 0
    ran = "running" in capsys.readouterr().err
    assert ran != (frames and kind == "mfcc")  # its single layer is what the stored frames are the mean of
    store, upstream = Store.open(folder), upstream_of(upstreams[kind])
    found = [alone(upstream, store, row) for row in range(len(store.utterances))]
    training = [code for row in TRAINING for code in found[row][0]]
    for name in ADDED:
        for row, (codes, layers) in enumerate(found):
            weights = torch.tensor(pooling_loops.weights(name, codes, training, a=0.02))
            expected = (weights[None, :, None] * layers).sum(dim=1)
            assert_close(store.vectors(name, [row])[0], expected, atol=1e-5, rtol=1e-5)
    counts = store.statistics("VQ-BP")
    assert dict(zip(map(tuple, counts.tuples.tolist()), counts.occurrences.tolist())) == Counter(training)
    old = tree(before)
    assert {name: h for name, h in tree(folder).items() if name in old and name != "manifest.json"} == {
        name: h for name, h in old.items() if name != "manifest.json"
    }


@pytest.mark.parametrize("kind", ["mfcc", "large"], ids=["from frames", "from the upstream"])
def test_weights_are_those_of_the_stored_codes(
    kind: str, stores: Stores, bare: Callable[[str], Path], upstreams: Upstreams, tmp_path: Path
) -> None:
    """Also where the upstream, which may round otherwise on this machine, would give others now."""
    before = stores(kind).folder if kind == "mfcc" else bare(kind)
    folder, upstream = Path(shutil.copytree(before, tmp_path / "store")), upstream_of(upstreams[kind])
    for path in folder.glob("shard-*.safetensors"):
        tensors = load_file(path)
        save_file({**tensors, "codes": tensors["codes"].flip(0).contiguous()}, path)
    assert add(folder, "VQ-Squash-OR") == 0
    store, others = Store.open(folder), 0
    for row in range(len(store.utterances)):
        codes, layers = alone(upstream, store, row)
        stored = [tuple(code) for code in store.codes(row).tolist()]
        weights, those = (
            torch.tensor(pooling_loops.weights("VQ-Squash-OR", each, [])) for each in (stored, codes)
        )
        others += not torch.allclose(weights, those)
        expected = (weights[None, :, None] * layers).sum(dim=1)
        assert_close(store.vectors("VQ-Squash-OR", [row])[0], expected, atol=1e-5, rtol=1e-5)
    assert others > 1


def test_added_mean_and_half_precision_are_as_extracted(extract: Any, stores: Stores, tmp_path: Path) -> None:
    options = ("--dtype", "float16", "--poolings", "AP")
    assert extract("large", tmp_path / "half", *options) == 0
    assert add(tmp_path / "half", "mean", "VQ-LP", "AP") == 0
    store = Store.open(tmp_path / "half")
    assert (store.manifest["poolings"], list(store.added)) == (["AP"], ["mean", "VQ-LP"])
    assert store.poolings == ["AP", "mean", "VQ-LP"]
    for name in ("mean", "VQ-LP"):
        assert torch.equal(store.vectors(name), stores("large").vectors(name).half())


def test_deviations_of_every_layer_are_those_of_one_utterance_at_a_time(
    extract: Any, upstreams: Upstreams, tmp_path: Path, capsys: Any
) -> None:
    assert extract("large", tmp_path / "store", "--poolings", "VQ-LP+std") == 0
    assert add(tmp_path / "store", "VQ-BP+std", "mean+std") == 0
    store, upstream = Store.open(tmp_path / "store"), upstream_of(upstreams["large"])
    found = [alone(upstream, store, row) for row in range(len(store.utterances))]
    training = [code for row in TRAINING for code in found[row][0]]
    for name in ("VQ-LP", "VQ-BP", "mean"):
        for row, (codes, layers) in enumerate(found):
            weights = pooling_loops.weights(name, codes, training)
            mean = (torch.tensor(weights)[None, :, None] * layers).sum(dim=1)
            deviation = [pooling_loops.weighted_deviation(layer.tolist(), weights) for layer in layers]
            expected = torch.cat([mean, torch.tensor(deviation)], dim=1)
            assert_close(store.vectors(f"{name}+std", [row])[0], expected, atol=1e-4, rtol=1e-4)
    assert cli.main(["store", "verify", str(tmp_path / "store")]) == 0
    command = ["train", "-d", "vqpool_ic", "--store", str(tmp_path / "store"), "-p", str(tmp_path / "exp")]
    assert cli.main([*command, "--poolings", "VQ-LP+std"]) == 2
    assert "VQ-LP+std: SUPERB's head learns a sum over layers and a projection" in error(capsys)


def test_runner_takes_the_statistics_without_a_pass(
    complete: Path, upstreams: Upstreams, datarc: Any, build: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    upstream = upstream_of(upstreams["large"])
    kind, identity = read_identity(complete / STATISTICS)
    assert (kind, {**identity, **upstream.identity()}) == ("counts", identity)
    monkeypatch.setattr(statistics, "_passes", lambda *_: pytest.fail("a pass over the training set"))
    shutil.copy(complete / STATISTICS, tmp_path)
    one = build("ic", datarc, "VQ-BP", upstream_dim=48)
    one.prepare(upstream, torch.nn.Module())
    counts = Store.open(complete).statistics("VQ-BP")
    assert torch.equal(one.model.pooling.tuples, counts.tuples)
    assert torch.equal(one.model.pooling.occurrences, counts.occurrences)


@pytest.mark.parametrize("fold", ["fold1", "fold4"])
def test_statistics_are_those_of_the_stores_fold(
    fold: str, synthetic: Any, tmp_path: Path, build: Any
) -> None:
    datarc = {**synthetic["er"], "test_fold": fold}
    command = ["extract", "-u", "mfcc_vq", "-d", "vqpool_er", *overrides(datarc), "--poolings", "AP"]
    assert cli.main([*command, "--frames", "--store", str(tmp_path / "er")]) == 0
    assert add(tmp_path / "er", "VQ-GP") == 0
    store = Store.open(tmp_path / "er")
    corpus = build("er", {**datarc, "pre_load": False}).corpus
    rows = store.rows(corpus.splits["train"])
    seen = Counter(tuple(code) for row in rows for code in store.codes(row).tolist())
    counts = store.statistics("VQ-GP")
    assert dict(zip(map(tuple, counts.tuples.tolist()), counts.occurrences.tolist())) == seen
    assert len(rows) < len(store.utterances)
    assert store.added["VQ-GP"]["fold"] == fold


def test_random_excerpt_counts_once_by_the_first_second_of_its_file(
    synthetic: Any, tmp_path: Path, build: Any
) -> None:
    command = ["extract", "-u", "mfcc_vq", "-d", "vqpool_ks", *overrides(synthetic["ks"]), "--frames"]
    assert cli.main([*command, "--poolings", "AP", "--store", str(tmp_path / "ks")]) == 0
    assert add(tmp_path / "ks", "VQ-BP") == 0
    store, corpus, upstream = Store.open(tmp_path / "ks"), build("ks", synthetic["ks"]).corpus, hub.mfcc_vq()
    first: dict[Path, int] = {}
    for row, utterance in enumerate(store.utterances):
        if utterance.start in (None, 0):
            first[utterance.path] = row
    rows = [first[utterance.path] for utterance in corpus.splits["train"]]
    drawn = next(k for k, u in enumerate(corpus.splits["train"]) if u.frames is not None)
    second = audio.read(corpus.splits["train"][drawn].path, corpus.gain_db, 0, 16000)
    assert torch.equal(upstream([torch.from_numpy(second)])["codes"][0], store.codes(rows[drawn]))
    seen = Counter(tuple(code) for row in rows for code in store.codes(row).tolist())
    counts = store.statistics("VQ-BP")
    assert dict(zip(map(tuple, counts.tuples.tolist()), counts.occurrences.tolist())) == seen


@pytest.mark.parametrize("number", [1, 2, 3, 8, -1], ids="write{}".format)
def test_kill_leaves_the_store_valid_and_the_same_command_continues(
    number: int, forked: Any, copy: Path, complete: Path
) -> None:
    if number < 0:  # the manifest
        number = 2 + 4 * Store.open(copy).manifest["shards"]
    process = forked(killed_in_write(number, lambda: add(copy, "VQ-BP", "VQ-SIF")))
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert cli.main(["store", "verify", str(copy)]) == 0
    assert not Store.open(copy).added
    with pytest.raises(InputError, match="Unknown pooling"):
        Store.open(copy).vectors("VQ-BP")
    written = {path.name: path.stat().st_mtime_ns for path in copy.glob("shard-*.VQ-*.json")}
    assert add(copy, "VQ-BP", "VQ-SIF") == 0
    same(copy, complete)
    assert {name: (copy / name).stat().st_mtime_ns for name in written} == written


def test_one_after_the_other_and_again_are_the_same(copy: Path, complete: Path, monkeypatch: Any) -> None:
    assert add(copy, "VQ-BP") == add(copy, "vq_sif", "VQ-LP") == 0
    same(copy, complete)
    monkeypatch.setattr(Writer, "write", lambda *_: pytest.fail("written again"))
    assert add(copy, "VQ-BP", "VQ-SIF") == 0


def of_rank(number: int, folder: Path, *poolings: str) -> Callable[[], int]:
    """`add` as one of three ranks."""

    def run() -> int:
        os.environ.update(RANK=str(number), WORLD_SIZE="3")
        return add(folder, *poolings)

    return run


def test_ranks_give_the_same_bytes(forked: Any, copy: Path, complete: Path) -> None:
    processes = [forked(of_rank(number, copy, "VQ-BP", "VQ-SIF")) for number in range(3)]
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    same(copy, complete)


@pytest.mark.parametrize("number", [1, 2, 3, 5])
def test_ranks_do_the_work_of_one_that_was_killed(
    number: int, forked: Any, copy: Path, complete: Path
) -> None:
    first = forked(killed_in_write(number, of_rank(1, copy, "VQ-BP", "VQ-SIF")))
    first.join(60)
    assert first.exitcode == -signal.SIGKILL
    assert not Store.open(copy).added
    others = [forked(of_rank(number, copy, "VQ-BP", "VQ-SIF")) for number in (0, 2)]
    for process in others:
        process.join(60)
    assert [process.exitcode for process in others] == [0, 0]
    assert list(copy.glob(".shard-*")) == []
    same(copy, complete)


def test_a_rank_does_the_work_of_all_from_stored_frames(
    extract: Any, forked: Any, stores: Stores, tmp_path: Path
) -> None:
    for name in ("one", "ranks"):
        shutil.copytree(stores("mfcc").folder, tmp_path / name)
    assert add(tmp_path / "one", "VQ-BP") == 0
    process = forked(of_rank(2, tmp_path / "ranks", "VQ-BP"))
    process.join(60)
    assert process.exitcode == 0
    same(tmp_path / "ranks", tmp_path / "one")


def test_without_locks_each_rank_adds_to_its_own_shards_only(
    forked: Any, copy: Path, complete: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_lock", lambda _: None)
    for number in range(3):
        assert not Store.open(copy).added
        process = forked(of_rank(number, copy, "VQ-BP", "VQ-SIF"))
        process.join(60)
        assert process.exitcode == 0
        assert {int(path.name[6:11]) % 3 for path in copy.glob("shard-*.VQ-BP.json")} == set(
            range(number + 1)
        )
    same(copy, complete)


def test_second_process_of_a_rank_is_refused_while_the_first_lives(
    forked: Any, copy: Path, complete: Path, capsys: Any
) -> None:
    half = copy / ".shard-00000.VQ-SIF.safetensors.rank0.tmp"
    first = forked(killed_in_write(4, lambda: add(copy, "VQ-BP", "VQ-SIF"), lambda: time.sleep(60)))
    while first.is_alive() and not (half.exists() and half.stat().st_size):
        time.sleep(0.001)
    before = tree(copy)
    assert add(copy, "VQ-BP", "VQ-SIF") == 2
    assert f"{copy}: process {first.pid} on " in error(capsys)
    assert tree(copy) == before
    os.kill(first.pid, signal.SIGKILL)
    first.join(60)
    assert add(copy, "VQ-BP", "VQ-SIF") == 0
    same(copy, complete)


def test_vectors_of_two_a_are_never_mixed(
    forked: Any, copy: Path, bare: Any, tmp_path: Path, capsys: Any
) -> None:
    for a, number in (("0.5", 9), ("0.1", 4)):  # the second between vectors and what says of them
        process = forked(killed_in_write(number, lambda a=a: add(copy, "VQ-SIF", "--option", f"a={a}")))
        process.join(60)
        assert process.exitcode == -signal.SIGKILL
    assert add(copy, "VQ-SIF", "--option", "a=0.5") == 0
    fresh = Path(shutil.copytree(bare("large"), tmp_path / "fresh"))
    assert add(fresh, "VQ-SIF", "--option", "a=0.5") == 0
    same(copy, fresh)
    assert add(copy, "VQ-SIF") == 2
    assert "has VQ-SIF with a 0.5, but now it is 0.001: give the same" in error(capsys)
    same(copy, fresh)


def test_extraction_goes_on_after_poolings_were_added(extract: Any, complete: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(complete, tmp_path / "store"))
    (folder / "shard-00001.jsonl").unlink()
    assert extract("large", folder, "--poolings", "VQ-LP") == 0
    same(folder, complete)


@pytest.mark.parametrize("name", ["shard-00002.VQ-SIF.safetensors", STATISTICS])
def test_verify_finds_damage_in_what_was_added_and_says_what_mends_it(
    name: str, complete: Path, tmp_path: Path, capsys: Any
) -> None:
    folder = Path(shutil.copytree(complete, tmp_path / "store"))
    assert cli.main(["store", "verify", str(folder)]) == 0
    count = 4 * Store.open(folder).manifest["shards"] + 2  # rows.safetensors, pooling_statistics.safetensors
    assert f"all {count} files are as they were written" in capsys.readouterr().out
    content = bytearray((folder / name).read_bytes())
    content[-1] ^= 1
    (folder / name).write_bytes(content)
    assert cli.main(["store", "verify", str(folder)]) == 1
    out = capsys.readouterr().out
    assert f"1 of {count} files damaged" in out
    remove, again = re.search(r"remove (\S+), and vqpool (.*) makes it again", out).groups()
    Path(remove).unlink()
    assert cli.main(["store", "verify", str(folder)]) == 1
    assert cli.main(again.split()) == 0
    same(folder, complete)


def test_info_names_what_was_added(complete: Path, capsys: Any) -> None:
    assert cli.main(["store", "info", str(complete)]) == 0
    counts = Store.open(complete).added["VQ-BP"]["counts"]
    assert (
        f"VQ-BP counts={counts}\nadded             VQ-SIF counts={counts}, a=0.001" in capsys.readouterr().out
    )


def test_audio_that_has_changed_is_refused(
    extract: Any, datarc: dict[str, Any], tmp_path: Path, capsys: Any
) -> None:
    root = Path(shutil.copytree(datarc["file_path"], tmp_path / "corpus"))
    assert extract("large", tmp_path / "store", file_path=str(root)) == 0
    path = root / "wavs" / "valid2.wav"
    soundfile.write(path, audio.read(path)[:-400], 16000)
    assert add(tmp_path / "store", "VQ-GP") == 2
    assert f"error: {path}: is not the audio that" in error(capsys)
    assert not Store.open(tmp_path / "store").added


def test_other_weights_are_refused(copy: Path, checkpoints: dict[str, Path], capsys: Any) -> None:
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps({**manifest, "ckpt": str(checkpoints["base"])}))
    assert add(copy, "VQ-GP") == 2
    assert f"{checkpoints['base']}: has other weights than {copy}" in error(capsys)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["SAP"], "SAP: is learned with a head"),
        (["Whitening"], "Whitening: a map is fitted where the vectors are used"),
        (["VQ-LP+std|*"], "VQ-LP+std|*: matches no pooling"),
        (["VQ-BB"], "Unknown pooling 'VQ-BB'. Did you mean"),
        (["VQ-GP", "--option", "a=0.1"], "--option a=0.1: none of VQ-GP takes it"),
        (["VQ-SIF", "--option", "a=0"], "--option a: expected a number above 0, but got '0'"),
        (["VQ-SIF", "--option", "a=nan"], "--option a: expected a number above 0, but got 'nan'"),
        (["VQ-SIF", "--option", "a"], "--option a: expected NAME=VALUE"),
    ],
)
def test_mistakes_leave_the_store_as_it_was(options: list[str], said: str, copy: Path, capsys: Any) -> None:
    before = tree(copy)
    assert add(copy, *options) == 2
    assert said in error(capsys)
    assert tree(copy) == before


def test_statistics_of_a_pooling_without_any_are_refused(complete: Path) -> None:
    with pytest.raises(InputError, match="VQ-LP: takes no training statistics"):
        Store.open(complete).statistics("VQ-LP")
