"""Two processes (gloo, CPU) through S3PRL's runner, whose DDP needs CUDA otherwise, beside one process.

The two ranks take batches of b, the single process of 2b: the same utterances at each step, so the same
parameters after it.
"""

from __future__ import annotations

import datetime
import random
import time
from argparse import Namespace
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import yaml
from torch.nn.parallel import DistributedDataParallel
from torch.testing import assert_close

import s3prl_vqpool  # noqa: F401  (makes s3prl importable)

WORLD = 2
SECONDS = 120
#: task: upstream, batch per rank, entries of the batch size. Steps are those of less than one epoch.
JOBS = {
    "ks": ("mfcc", 8, ("batch_size",)),
    "sid": ("large", 4, ("train_batch_size",)),
    "ic": ("large", 8, ("train_batch_size",)),
    "er": ("mfcc", 4, ("train_batch_size",)),
}
STEPS = {"ks": 4, "sid": 2, "ic": 4, "er": 4}
FINE_TUNED = "ic, upstream fine-tuned"
COUNTED = "er, VQ-GP"


def settings(
    job: str, paths: dict, checkpoints: dict, expdir: Path, rank: int | None
) -> tuple[Namespace, dict[str, Any]]:
    """Arguments and config as S3PRL's main() would have them, for one rank or (None) for one process alone."""
    from s3prl_vqpool.runner import plugin
    from s3prl_vqpool.runner.command_line import s3prl_parser

    task = job.split(",")[0]
    upstream, batch, sizes = JOBS[task]
    argv = ["-m", "train", "-p", str(expdir), "-d", f"vqpool_{task}", "--device", "cpu"]
    if upstream == "mfcc":
        argv += ["-u", "mfcc_vq"]
    else:
        argv += ["-u", "wav2vec2_vq_local", "-k", str(checkpoints[upstream])]
    if job == FINE_TUNED:
        argv += ["-f", "-s", "last_hidden_state"]
    if rank is not None:
        argv += ["--local_rank", str(rank)]
    args = s3prl_parser().parse_args(argv)
    config = yaml.safe_load(plugin.default_config(f"vqpool_{task}").read_text())
    config["runner"].update(
        total_steps=STEPS[task], eval_step=2, save_step=2, log_step=1, gradient_accumulate_steps=1
    )
    config["optimizer"]["lr"] = 1e-3
    if job == COUNTED:
        config["downstream_expert"]["modelrc"]["pooling"] = "VQ-GP"
    each = batch if rank is not None else WORLD * batch
    config["downstream_expert"]["datarc"].update(paths[task], num_workers=0, **dict.fromkeys(sizes, each))
    return args, config


def train(args: Namespace, config: dict[str, Any]) -> Any:
    """S3PRL's main() from here on."""
    from s3prl_vqpool.runner.runner import Runner

    random.seed(args.seed)
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)
    Path(args.expdir).mkdir(exist_ok=True)
    runner = Runner(args, config)
    runner.train()
    return runner


def bare(model: torch.nn.Module) -> torch.nn.Module:
    return model.module if isinstance(model, DistributedDataParallel) else model


def states(runner: Any) -> dict[str, dict[str, torch.Tensor]]:
    return {
        entry.name: {key: value.clone() for key, value in bare(entry.model).state_dict().items()}
        for entry in runner.all_entries
        if entry.trainable
    }


def rank_main(rank: int, folder: Path, paths: dict, checkpoints: dict) -> None:
    """One of the two processes: every job through the runner, then what this rank saw, into a file."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/store",
        rank=rank,
        world_size=WORLD,
        timeout=datetime.timedelta(seconds=SECONDS),
    )
    from s3prl.downstream import runner as s3prl_runner
    from s3prl.utility.helper import hack_isinstance

    hack_isinstance()
    s3prl_runner.DDP = lambda model, device_ids, **kwargs: DistributedDataParallel(model, **kwargs)
    seen = {}
    for job in (*JOBS, FINE_TUNED, COUNTED):
        args, config = settings(job, paths, checkpoints, folder / job, rank)
        runner = train(args, config)
        expert = bare(runner.downstream.model)
        sampled = {
            epoch: [*map(int, expert.get_dataloader("train", epoch=epoch).sampler)] for epoch in (0, 1)
        }
        loader = expert.get_dataloader("train", epoch=1)
        seen[job] = {
            "states": states(runner),
            "wrapped": [entry.name for entry in runner.all_entries if entry.model is not bare(entry.model)],
            "sampled": sampled,
            "read": [list(ids) for _, _, ids, _ in loader],
            "best": one_more_forward(runner),
        }
        dist.barrier()
    torch.save(seen, folder / f"rank{rank}.pt")
    dist.destroy_process_group()


def one_more_forward(runner: Any) -> tuple[float, float]:
    """Rank 0 logs a best dev score of 0.9; what each rank has before and after its next training forward."""
    expert = bare(runner.downstream.model)
    names = [tuple(each[0] for each in expert.classes)]
    records = {expert.loss_name: [1.0], "acc": [0.9], "weight": [1.0]}
    records.update(filename=["a"], predict=names, truth=names)

    class NoLogger:
        def add_scalar(self, *args: object, **kwargs: object) -> None:
            pass

        add_figure = add_scalar

    if dist.get_rank() == 0:
        runner.downstream.model.log_records("dev", records=records, logger=NoLogger(), global_step=9)
    before = expert.best_score.item()
    wavs, *others = next(iter(expert.get_dataloader("train", epoch=0)))
    wavs = [torch.FloatTensor(wav) for wav in wavs]
    features = runner.featurizer.model(wavs, runner.upstream.model(wavs))
    records = {key: [] for key in (expert.loss_name, "acc", "weight", "filename", "predict", "truth")}
    runner.downstream.model("train", features, *others, records=records).backward()
    return before, expert.best_score.item()


@pytest.fixture(scope="module")
def paths(synthetic: dict, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """The synthetic corpora, KS with noises of one second, of which no random piece is taken."""
    root = tmp_path_factory.mktemp("ks") / "speech_commands"
    (root / "_background_noise_").mkdir(parents=True)
    for word in Path(synthetic["ks"]["speech_commands_root"]).iterdir():
        if word.is_dir() and word.name[0] != "_":
            (root / word.name).symlink_to(word)
    for number in range(3):
        noise = np.random.default_rng(number).uniform(-0.1, 0.1, 16000)
        soundfile.write(root / "_background_noise_" / f"{number}.wav", noise, 16000)
    return {**synthetic, "ks": {**synthetic["ks"], "speech_commands_root": str(root)}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ddp")


@pytest.fixture(scope="module")
def ranks(folder: Path, paths: dict, checkpoints: dict) -> list[dict[str, dict[str, Any]]]:
    """What both processes saw, by job."""
    context = mp.spawn(rank_main, (folder, paths, checkpoints), nprocs=WORLD, join=False)
    try:
        end = time.monotonic() + SECONDS
        while not context.join(timeout=1):
            assert time.monotonic() < end, "the ranks wait for each other"
    finally:
        for process in context.processes:
            process.kill()
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(WORLD)]


@pytest.fixture(scope="module")
def alone(paths: dict, checkpoints: dict, folder: Path) -> dict[str, Any]:
    """The runner of one process with batches twice as large, by task."""
    jobs = (*JOBS, COUNTED)
    return {job: train(*settings(job, paths, checkpoints, folder / f"{job} alone", None)) for job in jobs}


@pytest.mark.parametrize("task", JOBS)
def test_shards_are_disjoint_and_their_union_is_the_order_of_one_process(
    task: str, ranks: list, alone: dict
) -> None:
    expert = alone[task].downstream.model
    for epoch in (0, 1):
        whole = list(expert.get_dataloader("train", epoch=epoch).sampler)
        shares = [rank[task]["sampled"][epoch] for rank in ranks]
        dealt = [index for pair in zip(*shares) for index in pair]
        assert dealt[: len(whole)] == whole
        assert dealt[len(whole) :] == whole[: len(whole) % 2]  # wrapped, so that both have as many
        if task != "ks":  # KS draws with replacement
            assert sorted(dealt[: len(whole)]) == list(range(len(whole)))
    read = Counter(name for rank in ranks for batch in rank[task]["read"] for name in batch)
    utterances = expert.corpus.splits["train"]
    batch = JOBS[task][1]
    kept = [
        index for share in shares for index in share[: len(share) // batch * batch if task == "ks" else None]
    ]
    assert read == Counter(utterances[index].id for index in kept)


@pytest.mark.parametrize("job", [*JOBS, FINE_TUNED, COUNTED])
def test_both_processes_end_with_the_same_parameters(job: str, ranks: list, checkpoints: dict) -> None:
    first, second = (rank[job]["states"] for rank in ranks)
    assert first.keys() == second.keys()
    with_parameters = [part for part in first if first[part]]  # one layer alone has no weights to learn
    assert ranks[0][job]["wrapped"] == ranks[1][job]["wrapped"] == with_parameters
    for part in first:
        for name in first[part].keys() - {"best_score"}:
            assert torch.equal(first[part][name], second[part][name]), name
    if job == FINE_TUNED:
        start = torch.load(checkpoints["large"], weights_only=True)["model_weight"]
        moved = [
            key for key, value in start.items() if not torch.equal(first["Upstream"][f"model.{key}"], value)
        ]
        assert "encoder.layers.0.fc1.weight" in moved
        assert not any(key.startswith("quantizer") for key in moved)


@pytest.mark.parametrize("job", [*JOBS, COUNTED])
def test_two_processes_train_as_one_with_the_batches_put_together(job: str, ranks: list, alone: dict) -> None:
    """For VQ-GP each process counts its share of the training set's codes, and both hold the sum."""
    expected, found = states(alone[job]), ranks[0][job]["states"]
    assert ("model.pooling.occurrences" in found["Downstream"]) == (job == COUNTED)
    assert expected.keys() == found.keys()
    for part in expected:
        for name in expected[part]:
            assert_close(found[part][name], expected[part][name], atol=1e-5, rtol=1e-4, msg=name)


@pytest.mark.parametrize("job", [*JOBS, FINE_TUNED])
def test_best_score_of_rank_0_reaches_rank_1_at_the_next_forward(job: str, ranks: list) -> None:
    (before, after), (before_1, after_1) = (rank[job]["best"] for rank in ranks)
    assert before == pytest.approx(0.9)
    assert before_1 != pytest.approx(0.9)
    assert after == after_1 == before


@pytest.mark.parametrize("job", [*JOBS, FINE_TUNED])
def test_checkpoint_of_rank_0_loads_into_a_fresh_expert(
    job: str, ranks: list, folder: Path, paths: dict, checkpoints: dict
) -> None:
    from s3prl_vqpool import checkpoints as files
    from s3prl_vqpool.runner.runner import Runner

    task = job.split(",")[0]
    state = files.load(folder / job / f"states-{STEPS[task]}.ckpt")
    assert (state["Step"], state["WorldSize"]) == (STEPS[task], WORLD)
    args, config = settings(job, paths, checkpoints, folder / f"{job} again", None)
    args.mode, args.init_ckpt = "evaluate", str(folder / job / f"states-{STEPS[task]}.ckpt")
    Path(args.expdir).mkdir()
    runner = Runner(args, config)
    for part, values in states(runner).items():
        for name in values.keys() - {"best_score"}:
            assert torch.equal(values[name], ranks[0][job]["states"][part][name]), name
    runner.evaluate()
    logs = [(folder / each / "log.log").read_text() for each in (job, f"{job} again")]
    during, after = (
        line.split()[-1] for line in (logs[0].split("test at step ")[-1].splitlines()[0], logs[1].strip())
    )
    assert float(during) == float(after)
