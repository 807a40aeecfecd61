"""Tasks, told once: what holds for every registered one, the rules of folds, and names that are refused."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from corpus_folders import refused

from s3prl_vqpool.corpora import tasks
from s3prl_vqpool.corpora.synthetic import TASKS
from s3prl_vqpool.corpora.tasks import READING, Task, by_downstream, by_name, register, registered
from s3prl_vqpool.errors import InputError
from s3prl_vqpool.runner import plugin
from s3prl_vqpool.runner.config import default_datarc

ROOT = Path(__file__).resolve().parents[2]
EVERY = pytest.mark.parametrize("task", registered(), ids=lambda task: task.name)


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is forgotten after it."""
    monkeypatch.setattr(tasks, "_tasks", dict(tasks._tasks))


def task(name: str = "fifth", downstream: str = "vqpool_fifth", **rest: Any) -> Task:
    return Task(name, "sounds", downstream, "fifth:load", (tasks.Place("root", "ROOT"),), **rest)


FOLDED = task(folds=("a", "b", "c"), fold_key="held_out")


@EVERY
def test_task_is_found_by_name_and_by_downstream(task: Task) -> None:
    assert by_name(task.name) is by_downstream(task.downstream) is task
    assert task.downstream in plugin.downstreams()
    assert plugin.expert_of(task.downstream).task is task


@EVERY
def test_default_config_has_the_keys_that_the_task_names(task: Task) -> None:
    datarc = default_datarc(task.downstream)
    assert {place.key for place in task.places} <= datarc.keys()
    assert not task.folds or datarc[task.fold_key] is None
    assert set(task.required) <= datarc.keys()


@EVERY
def test_official_counts_are_told_for_all_folds_or_for_none(task: Task) -> None:
    assert list(task.official) in ([], list(task.folds) or [""])


@pytest.mark.parametrize("name", TASKS)
def test_expert_reads_with_the_gain_of_its_corpus(name: str, synthetic: dict, build: Any) -> None:
    task = by_name(name)
    for fold, corpus in task.divisions(synthetic[task.name]):
        assert corpus.gain_db == plugin.expert_of(task.downstream).gain_db
        expert = build(task.name, {**synthetic[task.name], **({task.fold_key: fold} if fold else {})})
        assert (expert.fold, expert.corpus) == (fold, corpus)


def test_every_downstream_is_of_a_task() -> None:
    assert sorted(task.downstream for task in registered()) == plugin.downstreams()


def test_fold_is_the_configs_or_the_variants_or_the_first() -> None:
    assert FOLDED.fold({}) == FOLDED.fold({"held_out": None}) == "a"
    assert FOLDED.fold({"held_out": "c"}) == FOLDED.fold({"held_out": None}, "c") == "c"
    assert FOLDED.fold({"held_out": "c"}, "c") == "c"
    assert task().fold({"held_out": "c"}) == ""


def test_folds_that_contradict_or_are_unknown_are_refused() -> None:
    with refused("-v b: the config says datarc.held_out: c; leave one of the two out."):
        FOLDED.fold({"held_out": "c"}, "b")
    for datarc, variant in (({"held_out": "d"}, None), ({}, "d")):
        with refused("Unknown fold of vqpool_fifth: 'd'. Known: a, b, c."):
            FOLDED.fold(datarc, variant)
    with refused("-v a: vqpool_fifth has no folds; leave -v out."):
        task().fold({}, "a")


def test_corpus_keys_are_all_but_the_fold_and_how_it_is_read(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    datarc = {"root": "corpus", "subset": "10", "held_out": "b", **dict.fromkeys(READING, 4)}
    assert FOLDED.corpus_keys(datarc) == {"root": str(tmp_path / "corpus"), "subset": "10"}


def test_a_path_that_is_not_given_is_named() -> None:
    key = "config.downstream_expert.datarc.root"
    for datarc in ({}, {"root": None}):
        way_out = "or name it in corpora.yaml (fifth: {root: PATH}; vqpool corpora --help)."
        with refused(f"{key}: vqpool_fifth needs this path: give -o {key}=PATH, {way_out}"):
            task().load(datarc)


def test_unknown_names_have_close_matches() -> None:
    with pytest.raises(InputError, match=r"^Unknown task 'kss'\. Did you mean ks\?"):
        by_name("kss")
    with pytest.raises(
        InputError, match=r"^Unknown downstream of a task: 'vqpool_krs'\. Did you mean vqpool_ks "
    ):
        by_downstream("vqpool_krs")


def test_a_name_or_downstream_is_registered_once(known: None) -> None:
    added = register(task())
    assert registered()[-1] is added
    for name, downstream in (("fifth", "vqpool_other"), ("other", "vqpool_fifth")):
        with refused(f"Task {name!r} ({downstream}) is registered already, as 'fifth' (vqpool_fifth)."):
            register(replace(added, name=name, downstream=downstream))


def test_tasks_are_imported_without_torch() -> None:
    code = "import sys, s3prl_vqpool.corpora.tasks; print('torch' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert ran.stdout == "False\n", ran.stderr
