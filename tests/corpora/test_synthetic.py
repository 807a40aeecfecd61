"""The embedded corpora: the same bytes every time, complete or absent, and right for all four loaders."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from corpus_folders import bucket, names, refused, wav

from s3prl_vqpool.corpora import UtteranceDataset, synthetic
from s3prl_vqpool.corpora.fluent_commands import fluent_commands
from s3prl_vqpool.corpora.iemocap import iemocap
from s3prl_vqpool.corpora.speech_commands import speech_commands
from s3prl_vqpool.corpora.synthetic.espeak import Espeak, Voice
from s3prl_vqpool.corpora.voxceleb1 import voxceleb1

if importlib.util.find_spec("espeakng_loader") is None:
    pytest.skip("espeakng-loader is not installed", allow_module_level=True)

SCRIPT = (
    "import sys; from s3prl_vqpool.corpora.synthetic import synthesise; synthesise(sys.argv[1], size='small')"
)


def digest(folder: Path) -> str:
    total = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        total.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes())
    return total.hexdigest()


def another_process(out: Path) -> subprocess.Popen:
    root = Path(__file__).resolve().parents[2]
    return subprocess.Popen([sys.executable, "-c", SCRIPT, str(out)], cwd=root)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("small")
    synthetic.synthesise(out, size="small")
    return out


def test_synthesis_gives_the_same_bytes_in_every_process(small: Path, tmp_path: Path) -> None:
    assert another_process(tmp_path / "other").wait() == 0
    synthetic.synthesise(tmp_path / "again", ("er", "ks"), size="small")
    assert digest(tmp_path / "other") == digest(small)
    for name in ("IEMOCAP", "speech_commands_v0.01", "speech_commands_test_set_v0.01"):
        assert digest(tmp_path / "again" / name) == digest(small / name)


def test_another_seed_gives_other_speech(small: Path, tmp_path: Path) -> None:
    synthetic.synthesise(tmp_path, ("ks",), size="small", seed=1)
    content = {hashlib.sha256(path.read_bytes()).digest() for path in small.rglob("*.wav")}
    new = {hashlib.sha256(path.read_bytes()).digest() for path in tmp_path.rglob("*.wav")}
    assert len(new) > 90
    assert not content & new


def test_second_call_reuses_what_is_there(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path: path.stat().st_mtime_ns for path in small.rglob("*")}
    monkeypatch.setattr("s3prl_vqpool.corpora.synthetic.record.Espeak", None)
    entries = synthetic.synthesise(small, size="small")
    assert {path: path.stat().st_mtime_ns for path in small.rglob("*")} == before
    assert entries["sid"] == {
        "file_path": str(small / "VoxCeleb1"),
        "meta_data": str(small / "VoxCeleb1" / "split.txt"),
    }


def test_killed_synthesis_leaves_no_corpus_and_is_completed(small: Path, tmp_path: Path) -> None:
    process = another_process(tmp_path)
    while not any(tmp_path.glob(".ks.partial/*/*/*.wav")):
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    for name in os.listdir(tmp_path):
        assert name.endswith(".partial") or (tmp_path / name / synthetic.STAMP).is_file()
    synthetic.synthesise(tmp_path, size="small")
    assert digest(tmp_path) == digest(small)


def test_kill_between_the_two_folders_of_ks_is_completed(small: Path, tmp_path: Path) -> None:
    synthetic.synthesise(tmp_path, ("ks",), size="small")
    (tmp_path / ".ks.partial").mkdir()
    (tmp_path / "speech_commands_test_set_v0.01").rename(
        tmp_path / ".ks.partial" / "speech_commands_test_set_v0.01"
    )
    synthetic.synthesise(tmp_path, ("ks",), size="small")
    assert not (tmp_path / ".ks.partial").exists()
    test = "speech_commands_test_set_v0.01"
    assert digest(tmp_path / test) == digest(small / test)


def test_other_folders_are_refused_and_left_alone(tmp_path: Path) -> None:
    real = wav(tmp_path / "VoxCeleb1" / "dev" / "wav" / "id10001" / "s" / "1.wav")
    way_out = " Choose another folder, or remove it."
    not_ours = ": already there, and not this corpus (synthetic, size small, seed 0)."
    with refused(tmp_path / "VoxCeleb1", not_ours, way_out):
        synthetic.synthesise(tmp_path, ("sid",), size="small")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [real]
    synthetic.synthesise(tmp_path, ("er",), size="small", seed=3)
    with refused(tmp_path / "IEMOCAP", not_ours, way_out):
        synthetic.synthesise(tmp_path, ("er",), size="small")


def test_unknown_names_and_absent_espeak_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with refused("Unknown task 'asr'. Known: ks, sid, ic, er."):
        synthetic.synthesise(tmp_path, ("asr",))
    with refused("Unknown size 'smal'. Did you mean small? Known: default, small."):
        synthetic.synthesise(tmp_path, size="smal")
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with refused("Synthesising speech needs espeak-ng: pip install espeakng-loader"):
        synthetic.synthesise(tmp_path, size="small")
    assert not any(name for name in os.listdir(tmp_path) if not name.startswith("."))


def test_speech_commands_speakers_are_disjoint_and_clips_last_one_second(small: Path) -> None:
    corpus = speech_commands(small / "speech_commands_v0.01", small / "speech_commands_test_set_v0.01")
    speakers = defaultdict(set)
    for split in ("train", "dev", "test"):
        words = [u for u in corpus.splits[split] if names(corpus, u.label) != "_silence_"]
        for utterance in words:
            speakers[split].add(utterance.path.name.split("_nohash_")[0].split("_")[-1])
        samples = UtteranceDataset(words)
        assert {len(samples[index][0]) for index in range(len(words))} == {16000}
        assert Counter(names(corpus, u.label) for u in words)["yes"] == 2 * len(speakers[split])
    assert [len(speakers[split]) for split in ("train", "dev", "test")] == [3, 1, 1]
    assert not speakers["test"] & (speakers["train"] | speakers["dev"])
    assert all(10 <= bucket(speaker) < 20 for speaker in speakers["test"])


def test_every_corpus_has_audio_with_sound_in_it_and_every_class(small: Path) -> None:
    corpora = (
        speech_commands(small / "speech_commands_v0.01", small / "speech_commands_test_set_v0.01"),
        voxceleb1(small / "VoxCeleb1", small / "VoxCeleb1" / "split.txt"),
        fluent_commands(small / "fluent_speech_commands_dataset", "intents31"),
        iemocap(small / "IEMOCAP"),
    )
    assert [len(corpus.classes[0]) for corpus in corpora] == [12, 8, 31, 4]
    for corpus in corpora:
        for utterances in corpus.splits.values():
            dataset = UtteranceDataset(utterances)
            for samples in (dataset[index][0] for index in range(len(dataset))):
                assert 0.005 < np.abs(samples).max() < 1
        assert {u.label[0] for u in corpus.splits["test"]} == set(range(len(corpus.classes[0])))


def test_iemocap_meta_data_is_what_the_evaluation_files_say(small: Path) -> None:
    written = iemocap(small / "IEMOCAP", fold="fold3")
    (small / "IEMOCAP" / "meta_data").rename(small / "meta_data")
    try:
        built = iemocap(small / "IEMOCAP", fold="fold3")
    finally:
        (small / "meta_data").rename(small / "IEMOCAP" / "meta_data")
    assert built == written


def test_espeak_repeats_itself_from_a_long_path_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """espeak-ng refuses data paths over about 150 characters, and keeps state between voices."""
    import espeakng_loader

    data = tmp_path / ("x" * 120) / ("y" * 120) / "espeak-ng-data"
    data.parent.mkdir(parents=True)
    data.symlink_to(espeakng_loader.get_data_path(), target_is_directory=True)
    with Espeak() as espeak:
        first = espeak.say("marvin", Voice("en-us+f1"))
    monkeypatch.setattr(espeakng_loader, "get_data_path", lambda: str(data))
    for _ in range(20):
        with Espeak() as espeak:
            np.testing.assert_array_equal(espeak.say("marvin", Voice("en-us+f1")), first)
            with refused("espeak-ng has no voice 'xx+f1'. Expected a name like 'en-us+m3'."):
                espeak.say("marvin", Voice("xx+f1"))


def test_rate_and_volume_do_what_they_say() -> None:
    with Espeak() as espeak:
        slow, fast = (espeak.say("turn on the lights", Voice("en-us+m3", rate=rate)) for rate in (120, 240))
        soft, loud = (
            espeak.say("turn on the lights", Voice("en-us+m3", volume=level)) for level in (50, 100)
        )
    assert len(slow) > 1.5 * len(fast)
    assert 1.7 < np.abs(loud).max() / np.abs(soft).max() < 2.3
