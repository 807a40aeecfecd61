"""The batched linear layers and the learned poolings, against plain loops over one head, one utterance at a time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from fakes import features, random_codes, random_frames
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close

from s3prl_vqpool import pooling
from s3prl_vqpool.errors import InputError
from s3prl_vqpool.tables import learned, linear
from s3prl_vqpool.tables.linear import Problem, Settings, Stack

CLASSES = (3, 2)
N = 90
SETTINGS = Settings(batch=16, epochs=7, rates=(1e-1, 1e-2), seeds=(0, 3))  # 40 rows: the last batch has 8


def problem(classes: tuple[int, ...] = CLASSES) -> Problem:
    generator = torch.Generator().manual_seed(1)
    labels = torch.stack([torch.randint(n, (N,), generator=generator) for n in classes], 1)
    train, dev, test = torch.randperm(N, generator=generator).split([40, 20, 30])
    weights = torch.rand(20, generator=generator, dtype=torch.float64)
    return Problem(labels, classes, train, dev, test, weights)


class Layers(nn.Module):
    """Softmax weights over layers, if there are any, and a linear layer."""

    def __init__(self, size: int, layers: int) -> None:
        super().__init__()
        self.linear = nn.Linear(size, sum(CLASSES))
        self.mix = nn.Parameter(torch.zeros(layers))

    def forward(self, values: Tensor) -> Tensor:
        if len(self.mix):
            values = torch.einsum("l,nld->nd", self.mix.softmax(0), values)
        return self.linear(values)


def orders(rows: Tensor, seed: int, epochs: int) -> Iterator[Tensor]:
    for epoch in range(epochs):
        generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
        yield rows[torch.randperm(len(rows), generator=generator)]


def slotted(logits: Tensor) -> tuple[Tensor, Tensor]:
    return logits[:, :3], logits[:, 3:]


def accuracy(logits: Tensor, targets: Tensor, weights: Tensor) -> float:
    predicted = torch.stack([slot.argmax(1) for slot in slotted(logits)], 1)
    return float(100 * (weights * (predicted == targets).all(1)).sum() / weights.sum())


def loop(given: Problem, vectors: Tensor, seed: int, rate: float) -> tuple[Layers, list[float], list[float]]:
    """One head by the definition: its last state, and accuracies on dev and test after each epoch."""
    torch.manual_seed(seed)
    model = Layers(vectors.size(-1), vectors.size(1) if vectors.dim() == 3 else 0)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    dev, test = [], []
    for order in orders(given.train, seed, SETTINGS.epochs):
        for rows in order.split(SETTINGS.batch):
            optimizer.zero_grad()
            slots = zip(slotted(model(vectors[rows])), given.labels[rows].T)
            sum(F.cross_entropy(slot, target) for slot, target in slots).backward()
            optimizer.step()
        dev.append(accuracy(model(vectors[given.dev]), given.labels[given.dev], given.dev_weights))
        test.append(accuracy(model(vectors[given.test]), given.labels[given.test], torch.ones(30)))
    return model, dev, test


@pytest.mark.parametrize("shape", [(2, N, 5), (3, N, 4, 5)])
def test_fit_equals_a_loop_over_plain_heads(shape: tuple[int, ...]) -> None:
    given = problem()
    vectors = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    fits = linear.fit(vectors, given, SETTINGS)
    layers = shape[2] if len(shape) == 4 else 0
    stack = Stack(SETTINGS, shape[0], shape[-1], sum(CLASSES), layers)
    optimizer = stack.optimizer(SETTINGS)
    for epoch in range(SETTINGS.epochs):
        linear.train_epoch(stack, optimizer, vectors, given, SETTINGS, epoch)
    for variant in range(shape[0]):
        for s, seed in enumerate(SETTINGS.seeds):
            for r, rate in enumerate(SETTINGS.rates):
                model, dev, test = loop(given, vectors[variant], seed, rate)
                best = dev.index(max(dev))
                found = [each[variant, s, r].item() for each in (fits.dev, fits.test, fits.epoch)]
                assert found == pytest.approx([dev[best], test[best], best + 1])
                wanted = [model.linear.weight, model.linear.bias, *([model.mix] if layers else [])]
                own = [kind[r][variant * len(SETTINGS.seeds) + s] for kind in stack.kinds]
                assert_close(own, wanted, atol=1e-5, rtol=1e-5)
    assert len(fits.epoch.unique()) > 2  # dev really chooses


def test_fit_perfect_encoder_scores_100_and_float16_is_enough() -> None:
    given = problem((4,))
    vectors = torch.eye(4)[given.labels[:, 0]][None].half()
    fits = linear.fit(vectors, given, Settings(16, 40, (1e-1,), (0, 1, 2)))
    for found in (fits.dev, fits.test):
        assert_close(found, torch.full((1, 3, 1), 100.0, dtype=torch.float64))


def test_accuracies_count_dev_by_weight_in_parts_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = torch.tensor([[0], [1], [1], [0]])
    rows = torch.arange(4)
    given = Problem(labels, (2,), rows, rows, rows, torch.ones(4))
    stack = Stack(Settings(1, 1, (1.0, 2.0), (0,)), 1, 2, 2)
    for weight, bias, sign in zip(*stack.kinds, (1, -1)):
        weight.data, bias.data = sign * torch.eye(2)[None], torch.zeros(1, 2)
    vectors = torch.eye(2)[[0, 1, 0, 1]][None]  # right, right, wrong, wrong for the first head
    weights = torch.tensor([3.0, 2.0, 2.0, 1.0], dtype=torch.float64)
    for at_once in (1, 2**24):
        monkeypatch.setattr(linear, "_AT_ONCE", at_once)
        assert linear.accuracies(stack, vectors, given, rows).tolist() == [[[50, 50]]]
        assert linear.accuracies(stack, vectors, given, rows, weights).tolist() == [[[62.5, 37.5]]]


def test_fit_names_a_vector_that_is_not_finite() -> None:
    vectors = torch.zeros(2, N, 3)
    vectors[1, 7, 2] = float("inf")
    with pytest.raises(InputError, match="at index 7"):
        linear.fit(vectors, problem(), SETTINGS)


def test_fit_leaves_the_random_state_alone() -> None:
    before = torch.random.get_rng_state()
    given = problem()
    linear.fit(torch.zeros(1, N, 3), given, SETTINGS)
    learned.fit("SAP", random_features()[0], given, Settings(16, 1, (1e-2,), (0,)))
    assert torch.equal(torch.random.get_rng_state(), before)


def random_features() -> tuple[learned.Features, list[Tensor]]:
    lengths = [1 + k % 7 for k in range(N)]
    frames = random_frames(lengths)
    return features(frames, random_codes(lengths)), frames


@pytest.mark.parametrize("name", ["SAP", "ASP", "VAP"])
def test_learned_fit_equals_a_loop_over_utterances(name: str) -> None:
    """Batches of 36 and 4, of which the first is computed in two parts."""
    given, (both, frames) = problem(), random_features()
    torch.manual_seed(3)
    pool = pooling.build(name, 6)
    last = nn.Linear(pool.output_dim, sum(CLASSES))
    optimizer = torch.optim.Adam([*pool.parameters(), *last.parameters()], lr=1e-2)

    def logits(rows: Tensor) -> Tensor:
        alone = [pool(frames[k][None], torch.tensor([len(frames[k])])) for k in rows.tolist()]
        return last(torch.cat(alone))

    head = learned.initial(name, 6, sum(CLASSES), 3)
    other = torch.optim.Adam(head.parameters(), lr=1e-2)
    dev, test = [], []
    for order in orders(given.train, 3, 4):
        for rows in order.split(36):
            optimizer.zero_grad()
            slots = zip(slotted(logits(rows)), given.labels[rows].T)
            sum(F.cross_entropy(slot, target) for slot, target in slots).backward()
            optimizer.step()
        learned.train_epoch(head, other, both, given, order.split(36))
        dev.append(accuracy(logits(given.dev), given.labels[given.dev], given.dev_weights))
        test.append(accuracy(logits(given.test), given.labels[given.test], torch.ones(30)))
    found, wanted = dict(head.pooling.named_parameters()), dict(pool.named_parameters())
    for each in (found, wanted):
        each.pop("conv_2.bias", None)  # a softmax over time cancels it: its gradient is rounding error
    assert_close(found, wanted, atol=1e-4, rtol=1e-4)
    assert_close(head.post_net["linear"].state_dict(), last.state_dict(), atol=1e-4, rtol=1e-4)
    fits = learned.fit(name, both, given, Settings(36, 4, (1e-1, 1e-2), (0, 3)))
    best = dev.index(max(dev))
    found = [each[0, 1, 1].item() for each in (fits.dev, fits.test, fits.epoch)]
    assert found == pytest.approx([dev[best], test[best], best + 1])
