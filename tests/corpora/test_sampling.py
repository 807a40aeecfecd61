"""Order and shares of training utterances: by hand, by frequencies, and by two processes."""

from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import SequentialSampler

from s3prl_vqpool.corpora import sampling
from s3prl_vqpool.corpora.sampling import DistributedSamplerWrapper, TrainingSampler, share


def order(size: int, seed: int = 0, epoch: int = 0, weights: list[float] | None = None) -> list[int]:
    return list(TrainingSampler(size, weights, seed, epoch))


def shares(indices: list[int], world: int) -> list[list[int]]:
    """What each rank of a world takes."""
    with pytest.MonkeyPatch.context() as patch:
        found = []
        for rank in range(world):
            patch.setattr(sampling, "rank_and_world", lambda rank=rank: (rank, world))
            found.append(share(indices))
        return found


@pytest.mark.parametrize("size", [1, 2, 97])
def test_order_is_a_permutation(size: int) -> None:
    assert sorted(order(size)) == list(range(size))
    assert len(TrainingSampler(size, None, 0, 0)) == size


def test_order_depends_on_seed_and_epoch_alone() -> None:
    orders = {(seed, epoch): order(50, seed, epoch) for seed in (0, 1, 1337) for epoch in range(4)}
    assert len({tuple(each) for each in orders.values()}) == len(orders)
    torch.manual_seed(99)
    for (seed, epoch), expected in orders.items():
        assert order(50, seed, epoch) == expected
    sampler = TrainingSampler(50, None, 1, 2)
    assert list(sampler) == list(sampler) == orders[1, 2]


@pytest.mark.parametrize("weights", [None, [1.0] * 30], ids=["permutation", "weighted"])
def test_order_neither_reads_nor_changes_the_process_random_state(weights: list[float] | None) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = order(30, weights=weights)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    assert order(30, weights=weights) == first


def test_weights_give_frequencies() -> None:
    weights = [4.0, 2.0, 1.0, 1.0, 0.0]
    draws, epochs = Counter(), 4000
    for epoch in range(epochs):
        drawn = order(5, epoch=epoch, weights=weights)
        assert len(drawn) == 5
        draws.update(drawn)
    total = 5 * epochs
    assert draws[4] == 0
    for index, weight in enumerate(weights):
        p = weight / 8
        assert abs(draws[index] / total - p) < 4 * (p * (1 - p) / total) ** 0.5 + 1e-12, index


def test_weights_of_classes_balance_them() -> None:
    labels = [0] * 90 + [1] * 9 + [2]
    counts = Counter(labels)
    weights = [1 / counts[label] for label in labels]
    drawn = Counter(labels[i] for epoch in range(60) for i in order(100, epoch=epoch, weights=weights))
    for label in range(3):
        assert abs(drawn[label] / 6000 - 1 / 3) < 4 * (2 / 9 / 6000) ** 0.5


def test_shares_match_a_hand_computed_case() -> None:
    assert shares([10, 11, 12, 13, 14], 2) == [[10, 12, 14], [11, 13, 10]]
    assert shares([10, 11, 12, 13, 14], 3) == [[10, 13], [11, 14], [12, 10]]
    assert shares([10, 11, 12, 13], 1) == [[10, 11, 12, 13]]
    assert shares([10], 4) == [[10]] * 4
    assert shares([], 2) == [[], []]


@settings(max_examples=200, deadline=None)
@given(size=st.integers(0, 60), world=st.integers(1, 17))
def test_shares_are_equal_disjoint_and_cover_everything_with_the_wrap(size: int, world: int) -> None:
    indices = [100 + i for i in range(size)]
    parts = shares(indices, world)
    each = -(-size // world)
    assert [len(part) for part in parts] == [each] * world
    in_turn = [parts[rank][i] for i in range(each) for rank in range(world)]
    assert in_turn == [indices[i % size] for i in range(each * world)]


@settings(max_examples=50, deadline=None)
@given(size=st.integers(1, 60), world=st.integers(1, 9), weighted=st.booleans())
def test_sampler_of_all_ranks_together_is_that_of_one_process(size: int, world: int, weighted: bool) -> None:
    weights = [1.0 + i for i in range(size)] if weighted else None
    alone = order(size, seed=3, epoch=1, weights=weights)
    with pytest.MonkeyPatch.context() as patch:
        parts = []
        for rank in range(world):
            patch.setattr(sampling, "rank_and_world", lambda rank=rank: (rank, world))
            sampler = TrainingSampler(size, weights, 3, 1)
            parts.append(list(sampler))
            assert len(sampler) == len(parts[-1])
            wrapped = DistributedSamplerWrapper(SequentialSampler(range(size)))
            assert list(wrapped) == share(list(range(size)))
            assert len(wrapped) == len(list(wrapped))
    in_turn = [part[i] for i in range(len(parts[0])) for part in parts]
    assert in_turn[:size] == alone


def draw(rank: int, rendezvous: str, out: str) -> None:
    torch.set_num_threads(1)  # OpenMP's threads do not survive the fork
    torch.distributed.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    torch.manual_seed(rank)  # the ranks' own random states shall not matter
    drawn = {
        "permutation": list(map(int, TrainingSampler(11, None, 7, 3))),
        "weighted": list(map(int, TrainingSampler(11, [1.0 + i for i in range(11)], 7, 3))),
        "length": len(TrainingSampler(11, None, 7, 3)),
    }
    torch.save(drawn, f"{out}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_draw_complementary_shares_of_one_order(tmp_path: Path) -> None:
    arguments = (str(tmp_path / "rendezvous"), str(tmp_path))
    torch.multiprocessing.start_processes(draw, arguments, nprocs=2, start_method="fork")
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert first["length"] == second["length"] == 6
    alone = order(11, seed=7, epoch=3)
    assert first["permutation"] == alone[0::2]
    assert second["permutation"] == [*alone[1::2], alone[0]]
    assert set(first["permutation"]).isdisjoint(second["permutation"][:-1])
    assert sorted(first["permutation"] + second["permutation"][:-1]) == list(range(11))
    weighted = order(11, seed=7, epoch=3, weights=[1.0 + i for i in range(11)])
    assert first["weighted"] == weighted[0::2]
    assert second["weighted"] == [*weighted[1::2], weighted[0]]
