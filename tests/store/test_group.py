"""Processes that share work: here objects of one process that share torch's store of keys."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from torch.distributed import HashStore

from s3prl_vqpool.errors import InputError
from s3prl_vqpool.store import embed
from s3prl_vqpool.store.group import Group
from s3prl_vqpool.store.progress import Progress


def started(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_a_process_alone_takes_all_and_waits_for_nobody() -> None:
    group = Group()
    assert (group.rank, group.world) == (0, 1)
    group.begin()
    group.wait_for_begin()
    assert list(group.take(4)) == [0, 1, 2, 3]
    assert list(group.take(0)) == []
    group.leave()
    group.wait_for_others()


def test_numbers_go_to_who_asks() -> None:
    keys = HashStore()
    first, second = (Group(rank, 2, keys).take(5) for rank in range(2))
    assert [next(first), next(second), next(second), next(first)] == [0, 1, 2, 3]
    assert [*second, *first] == [4]


def test_helpers_wait_for_the_first_process_and_it_for_all_of_them() -> None:
    keys = HashStore()
    lead, *helpers = (Group(rank, 3, keys) for rank in range(3))
    waiting = [started(helper.wait_for_begin) for helper in helpers]
    for thread in waiting:
        thread.join(0.15)
        assert thread.is_alive()
    lead.begin()
    for thread in waiting:
        thread.join(5)
        assert not thread.is_alive()
    last = started(lead.wait_for_others)
    for helper in helpers:
        last.join(0.15)
        assert last.is_alive()
        helper.leave()
    last.join(5)
    assert not last.is_alive()


def test_torchrun_says_how_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    for world in (None, "1"):
        monkeypatch.delenv("WORLD_SIZE", raising=False)
        if world:
            monkeypatch.setenv("WORLD_SIZE", world)
        alone = Group.of_torchrun()
        assert (alone.rank, alone.world, list(alone.take(2))) == (0, 1, [0, 1])
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match=r"^WORLD_SIZE is 2, but torchrun did not start this process"):
        Group.of_torchrun()


def test_keys_that_are_gone_are_one_line() -> None:
    class Gone:
        def add(self, *_: object) -> int:
            raise ValueError("connection\nreset")

        check = set = add

    group = Group(1, 2, Gone())  # type: ignore[arg-type]
    for ask in (lambda: next(group.take(3)), group.begin, group.wait_for_begin, group.leave):
        with pytest.raises(
            InputError, match=r"cannot reach each other \(connection reset\): the same command"
        ):
            ask()


@pytest.mark.parametrize(
    ("taken", "amounts"), [([0, 1, 2, 3], [1, 2, 4, 8]), ([0, 2, 3], [1, 6, 8]), ([3], [15])]
)
def test_parts_of_others_count_as_soon_as_a_later_one_is_done(
    taken: list[int], amounts: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[float] = []
    made: list[Any] = []
    monkeypatch.setattr(Progress, "advance", lambda _, amount: told.append(amount))
    monkeypatch.setattr(embed, "_part", lambda work, rows: rows)
    monkeypatch.setattr(embed.files, "write_tensors", lambda path, content: made.append((path.name, content)))
    hour = 3600 * 16000
    work: Any = SimpleNamespace(
        samples=[hour, 2 * hour, 4 * hour, 8 * hour], parts=[(tmp_path / str(row), [row]) for row in range(4)]
    )
    (tmp_path / "2").touch()  # it is there
    group: Any = SimpleNamespace(rank=1, take=lambda count: taken if count == 4 else [])
    embed._share(work, group, 1)
    assert told == amounts
    assert made == [(str(row), {"vectors": [row]}) for row in taken if row != 2]
