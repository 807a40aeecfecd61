"""Heads trained at once: each against the same head by itself, with torch's gradients, clipping and optimizer."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.testing import assert_close

from s3prl_vqpool.errors import InputError
from s3prl_vqpool.trainer import batched as trainer
from s3prl_vqpool.trainer.batched import Heads, Run

LAYERS, DIM, UTTERANCES = 3, 12, 5

Make = Callable[..., list[Run]]


@pytest.fixture
def make(build: Any, synthetic: dict, tmp_path: Path) -> Make:
    """`make("ic", poolings, **optimizer)`: a run per pooling, each with parameters of its own."""

    def make(task: str, poolings: list[str], scheduler: dict | None = None, **optimizer: Any) -> list[Run]:
        runs = []
        for seed, pooling in enumerate(poolings):
            torch.manual_seed(seed)
            expert = build(task, synthetic[task], upstream_dim=DIM)
            config = {"optimizer": {"name": "TorchOptim", **optimizer}, "runner": {"total_steps": 9}}
            config |= {"scheduler": scheduler} if scheduler else {}
            args = argparse.Namespace(expdir=str(tmp_path / str(seed)))
            runs.append(Run(expert, LAYERS, args, config, pooling))
            runs[-1].featurizer.weights.data.normal_()
        return runs

    return make


def logits_of(run: Run, vectors: Tensor) -> Tensor:
    mixed = (run.featurizer.weights.softmax(dim=0)[:, None] * vectors).sum(dim=1)
    return run.expert.model.post_net.linear(run.expert.projector(mixed))


def some_vectors() -> Tensor:
    return torch.randn(UTTERANCES, LAYERS, DIM)


def target_of(logits: Tensor) -> Tensor:
    return torch.linspace(-1, 1, logits.size(-1)).sin().expand_as(logits)


def learn(heads: Heads, vectors: Tensor) -> None:
    done = heads.forward(vectors)
    heads.backward(done, 2 * (done.logits - target_of(done.logits)))


@pytest.mark.parametrize("task", ["ks", "er"])
@pytest.mark.parametrize("clip", [1e-2, 20.0, 1e6])
def test_heads_step_equals_torchs_clipping_and_optimizer(task: str, clip: float, make: Make) -> None:
    """Clipped always, now and then, never; more classes (ks) and fewer (er) than utterances; two batches a step."""
    runs = make(task, ["VQ-LP"] * 3, torch_optim_name="SGD", lr=1e-2, momentum=0.9)
    alone = deepcopy(runs)
    (heads,) = trainer.batched(runs)
    clipped = []
    optimizers = [torch.optim.SGD(run.parameters.values(), lr=1e-2, momentum=0.9) for run in alone]
    for _ in range(6):
        batches = [some_vectors(), some_vectors()]
        for vectors in batches:
            learn(heads, vectors)
        assert heads.step(clip) == []
        for run, optimizer in zip(alone, optimizers):
            optimizer.zero_grad()
            for vectors in batches:
                logits = logits_of(run, vectors)
                (logits - target_of(logits)).square().sum().backward()
            clipped.append(bool(clip_grad_norm_(run.parameters.values(), clip) > clip))
            optimizer.step()
    assert {1e-2: all(clipped), 20.0: 0 < sum(clipped) < len(clipped), 1e6: not any(clipped)}[clip]
    for run, other in zip(runs, alone):
        for name, value in run.parameters.items():
            assert_close(value, other.parameters[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("task", ["ks", "er"])
def test_heads_with_a_nan_gradient_are_left_as_they_were(task: str, make: Make) -> None:
    """As S3PRL's runner does; the other heads go on as if it were not there, and so does that head afterwards."""
    adam = {"torch_optim_name": "Adam", "lr": 1e-2}
    runs, without = make(task, ["VQ-LP"] * 3, **adam), make(task, ["VQ-LP"] * 3, **adam)
    (heads,), (others,) = trainer.batched(runs), trainer.batched(without)
    first, second, third = some_vectors(), some_vectors(), some_vectors()
    for vectors in (first, second, third):
        learn(others, vectors)
        others.step(clip=1.0)
    learn(heads, first)
    assert heads.step(clip=1.0) == []
    before = {name: value.clone() for name, value in runs[1].parameters.items()}
    done = heads.forward(second)
    gradient = 2 * (done.logits - target_of(done.logits))
    gradient[1, 0, 0] = math.nan
    heads.backward(done, gradient)
    assert heads.step(clip=1.0) == [runs[1]]
    assert_close(runs[1].parameters, before, rtol=0, atol=0)
    learn(heads, third)
    assert heads.step(clip=1.0) == []
    for name, value in before.items():
        assert not torch.equal(runs[1].parameters[name], value)
        for head in (0, 2):
            assert_close(runs[head].parameters[name], without[head].parameters[name], rtol=0, atol=0)
    assert [run.state(3, 0)["Optimizer"]["state"][0]["step"] for run in runs] == [3, 2, 3]


def test_heads_with_an_infinite_norm_take_their_step(make: Make) -> None:
    """As S3PRL's runner does, which leaves out NaN only: clipped to nothing, so momentum goes on by itself."""
    runs = make("ks", ["VQ-LP"] * 2, torch_optim_name="SGD", lr=1e-2, momentum=0.9)
    alone = deepcopy(runs)
    (heads,) = trainer.batched(runs)
    optimizers = [torch.optim.SGD(run.parameters.values(), lr=1e-2, momentum=0.9) for run in alone]
    for scale in (1.0, 1e22):
        vectors = some_vectors()
        done = heads.forward(vectors)
        gradient = torch.ones_like(done.logits)
        gradient[1] *= scale
        heads.backward(done, gradient)
        assert heads.step(clip=1.0) == []
        infinite = []
        for run, optimizer, own in zip(alone, optimizers, gradient):
            optimizer.zero_grad()
            logits_of(run, vectors).backward(own)
            infinite.append(math.isinf(clip_grad_norm_(run.parameters.values(), 1.0)))
            optimizer.step()
        assert infinite == [False, scale > 1]
    for run, other in zip(runs, alone):
        for name, value in run.parameters.items():
            assert value.isfinite().all()
            assert_close(value, other.parameters[name], rtol=1e-5, atol=1e-6)


def test_schedulers_go_on_where_a_gradient_is_nan(make: Make) -> None:
    """As in S3PRL's runner: the rate of a step is that of its number, whether it was taken or not."""
    warmup = {"name": "linear_schedule_with_warmup", "num_warmup_steps": 4}
    runs = make("ks", ["VQ-LP"] * 2, scheduler=warmup, torch_optim_name="SGD", lr=1.0)
    (heads,) = trainer.batched(runs)
    rates = []
    for step in range(3):
        done = heads.forward(some_vectors())
        gradient = torch.ones_like(done.logits)
        gradient[0, 0, 0] = math.nan if step == 1 else 1
        heads.backward(done, gradient)
        assert heads.step(clip=1.0) == ([runs[0]] if step == 1 else [])
        rates.append([run.optimizer.param_groups[0]["lr"] for run in runs])
    assert rates == [[0.25, 0.25], [0.5, 0.5], [0.75, 0.75]]


def test_batched_heads_are_of_one_pooling_and_in_order(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "TOGETHER", 2)
    runs = make("er", ["VQ-LP", "VQ-LP", "VQ-LP", "mean", "AP", "AP"], torch_optim_name="Adam", lr=1e-2)
    together = trainer.batched(runs)
    assert [(heads.pooling, len(heads.runs)) for heads in together] == [
        ("VQ-LP", 2),
        ("VQ-LP", 1),
        ("mean", 1),
        ("AP", 2),
    ]
    assert [run for heads in together for run in heads.runs] == runs


def test_eight_heads_are_together(make: Make) -> None:
    runs = make("er", ["VQ-LP"] * 9, torch_optim_name="Adam", lr=1e-2)
    assert [len(heads.runs) for heads in trainer.batched(runs)] == [8, 1]


def test_small_gradients_are_clipped_as_torch_clips_them(make: Make) -> None:
    """Where the norm is near the 1e-6 that torch adds to it."""
    runs = make("er", ["VQ-LP"] * 2, torch_optim_name="SGD", lr=1e6)
    alone = deepcopy(runs)
    (heads,) = trainer.batched(runs)
    vectors = some_vectors()
    done = heads.forward(vectors)
    gradient = 1e-6 * torch.ones_like(done.logits)
    heads.backward(done, gradient)
    heads.step(clip=1e-6)
    for run, other, own in zip(runs, alone, gradient):
        before = {name: value.detach().clone() for name, value in other.parameters.items()}
        logits_of(other, vectors).backward(own)
        assert clip_grad_norm_(other.parameters.values(), 1e-6) > 1e-6
        for name, value in other.parameters.items():
            assert_close(before[name] - run.parameters[name], 1e6 * value.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("optimizer", "fused"),
    [
        *(({"torch_optim_name": name}, True) for name in ("Adam", "AdamW", "SGD", "Adagrad")),
        *(({"torch_optim_name": name}, False) for name in ("Adadelta", "RMSprop")),
        ({"torch_optim_name": "Adam", "foreach": False}, False),
        ({"torch_optim_name": "Adam", "fused": False}, False),
    ],
)
def test_one_kernel_a_step_where_torch_has_one_and_the_config_leaves_it(
    optimizer: dict, fused: bool, make: Make
) -> None:
    (run,) = make("er", ["VQ-LP"], lr=1e-2, **optimizer)
    run.prepare()
    assert run.fused == fused
    assert bool(run.optimizer.param_groups[0].get("fused")) == fused
    state = run.state(0, 0)
    assert not any(
        group.get("fused") for group in state["Optimizer"]["param_groups"]
    )  # as S3PRL's runner saves it
    run.load(state)
    assert bool(run.optimizer.param_groups[0].get("fused")) == fused


@pytest.mark.parametrize("name", ["LBFGS", "SparseAdam"])
def test_optimizers_that_need_more_than_gradients_are_refused(name: str, make: Make) -> None:
    (run,) = make("er", ["VQ-LP"], lr=1e-2, torch_optim_name=name)
    with pytest.raises(InputError, match=f"torch_optim_name {name}: takes no steps on plain gradients"):
        run.prepare()
