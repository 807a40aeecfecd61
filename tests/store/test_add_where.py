"""Where poolings are added: the device, and what is said of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from s3prl_vqpool.errors import InputError
from s3prl_vqpool.store import Store, layout
from s3prl_vqpool.store import add as filling
from s3prl_vqpool.store.files import part_index_name


@pytest.fixture
def copy(stores: Callable[[str], Store], tmp_path: Path) -> Path:
    return Path(shutil.copytree(stores("large").folder, tmp_path / "copy"))


def test_poolings_are_added_on_the_device_of_the_extraction(monkeypatch: pytest.MonkeyPatch) -> None:
    def device(name: str) -> torch.device:
        return filling._device(SimpleNamespace(manifest={"device": name}, folder=Path("s")))  # type: ignore[arg-type]

    for there in (True, False):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert device("cpu") == torch.device("cpu")
    with pytest.raises(InputError, match="was extracted on cuda, which this torch does not see"):
        device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert device("cuda") == torch.device("cuda", 0)
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert device("cuda") == torch.device("cuda", 3)


def test_disk_is_that_of_the_missing_vectors(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One pooling of 12 utterances, then a second one where a shard of the first is lost."""
    asked = []
    monkeypatch.setattr(layout, "check_disk", lambda folder, needed, _: asked.append(needed))
    store = Store.open(copy)
    one = store.manifest["layers"] * store.manifest["dim"] * 4
    assert filling.add(store, ["VQ-Squash-OR"], {})
    part = copy / part_index_name(1, "VQ-Squash-OR")
    part.unlink()
    store = Store.open(copy)
    assert filling.add(store, ["VQ-Squash-OR", "VQ-AllSquash-AND"], {})
    assert filling.add(Store.open(copy), ["VQ-Squash-OR", "VQ-AllSquash-AND", "AP"], {})
    assert asked == [12 * one, (12 + len(store.shards[1])) * one, 0]


def test_hours_of_another_pass_are_said(copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(filling.audio, "hours", lambda samples: samples)
    store = Store.open(copy)
    assert filling.add(store, ["VQ-Squash-OR"], {})
    said = capsys.readouterr().err
    assert f"again over {sum(row.samples for row in store.utterances):,}.00 h of speech" in said


@pytest.mark.parametrize("rank", [0, 1])
def test_the_first_rank_alone_shows_its_work(
    rank: int, copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    shown = []
    monkeypatch.setattr(filling, "progress", lambda *given: shown.append(given[-1]) or nullcontext())
    monkeypatch.setattr(filling, "go_through", lambda *_: None)
    assert not filling.add(Store.open(copy), ["VQ-Squash-OR"], {}, rank, 2)
    assert set(shown) == {rank == 0}
    assert ("h of speech" in capsys.readouterr().err) == (rank == 0)
