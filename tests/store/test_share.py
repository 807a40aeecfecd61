"""Which rank takes which shard, beside cases worked out by hand."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from s3prl_vqpool import files
from s3prl_vqpool.store.files import index_name
from s3prl_vqpool.store.share import Taken, others, own

sys.path[:0] = [str(Path(__file__).parents[2] / "benchmarks")]

from scale import simulated  # noqa: E402


def taken_in(folder: Path) -> Taken:
    return Taken(folder, lambda number: (folder / index_name(number)).exists())


def test_shards_are_dealt_out_in_turn() -> None:
    assert [list(own(rank, 3, 7, lambda _: True)) for rank in range(3)] == [[0, 3, 6], [1, 4], [2, 5]]
    assert list(own(1, 3, 7, lambda number: number != 1)) == [4]


def test_what_is_left_is_taken_from_the_end() -> None:
    there = [True, False, True, True, False, True, False]
    assert list(others(there, lambda number: number != 6)) == [4, 1]


def test_a_rank_takes_what_a_slow_one_has_not_begun() -> None:
    """Rank 0 needs 1 a shard: 0 until 1, 3 until 2, 6 until 3. Rank 1 needs 4: 1 until 4. Rank 2 needs 1.25: 2 until
    1.25, 5 until 2.5, then 4, since 6 and 1 are taken, until 3.75. At 4 there is nothing left for rank 1.
    """
    speeds = [1, 1 / 4, 1 / 1.25]
    assert simulated([1] * 7, speeds) == (4, [3, 4, 3.75])
    assert simulated([1] * 7, speeds, shared=False) == (8, [3, 8, 2.5])


def test_equal_ranks_are_idle_for_less_than_a_shard() -> None:
    end, busy = simulated([1.0] * 203, [1.0] * 10)
    assert (end, sorted(busy)) == (21, [20.0] * 7 + [21.0] * 3)


def test_a_shard_is_taken_once_and_not_when_it_is_there(tmp_path: Path) -> None:
    with taken_in(tmp_path) as taken:
        assert taken.take(0)
        assert (tmp_path / ".shard-00000.lock").exists()
        taken.leave(0)
        (tmp_path / index_name(1)).touch()
        assert not taken.take(1)
        assert taken.take(2)
    assert [path.name for path in tmp_path.iterdir()] == [index_name(1)]


def test_a_shard_that_was_finished_while_it_was_taken_is_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = files._lock

    def finished(file: object) -> bool | None:
        (tmp_path / index_name(0)).touch()
        return lock(file)  # type: ignore[arg-type]

    monkeypatch.setattr(files, "_lock", finished)
    with taken_in(tmp_path) as taken:
        assert not taken.take(0)
    assert [path.name for path in tmp_path.iterdir()] == [index_name(0)]
