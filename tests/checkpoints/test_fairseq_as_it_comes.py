"""Checkpoints as users bring them: unused objects, weights that are not finite, a quantizer inside another model."""

import argparse
import collections
import dataclasses
import datetime
import json
from pathlib import Path
from typing import Any

import s3prl_vqpool  # noqa: F401 (S3PRL's own modules import after it on every stack)

# isort: split
import golden
import numpy as np
import pytest
import torch
from fairseq_answers import MODELS, assert_equals_fairseq, convert
from s3prl import hub
from tiny import LARGE, converted_checkpoint, waves

from s3prl_vqpool.checkpoints import fairseq
from s3prl_vqpool.errors import InputError


# ----------------------------------------------------------------------------------- what is not used of a file
@golden.needed
@pytest.mark.parametrize("case", ["dictionary_in_task_state", "numpy_scalar_in_extra_state"])
def test_objects_in_unused_keys_are_passed_over(case: str) -> None:
    upstream = hub.wav2vec2_vq_custom(ckpt=str(golden.CASES / f"{case}.pt")).eval()
    assert_equals_fairseq(upstream, "fairseq_wav2vec2_large", golden.expected("fairseq"))


class Labels(dict):
    """A dict of a class of its own, and with attributes."""


def unused() -> dict[str, Any]:
    """What fairseq's checkpoints have been seen to hold beside configs and weights."""
    labels = Labels(a=1)
    labels.source = Path("dict.ltr.txt")
    return {
        "task_state": {"dictionaries": [labels, collections.Counter("abca")], "target": argparse.Namespace(a={1})},
        "extra_state": {
            "best": np.float64(0.5), "rng": np.random.RandomState(0).get_state(), "table": np.zeros((300, 7)),
            "seen": {("a", 1): collections.deque([1, 2])}, "when": datetime.datetime(2020, 1, 1),
        },
        "dtype": torch.float32, "size": torch.Size([1, 2]), "scale": 2 + 3j, "raw": bytearray(b"abc"),
    }  # fmt: skip


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy format"])
def test_classes_of_all_kinds_in_unused_keys_are_passed_over(
    tmp_path: Path, zipped: bool, protocol: int
) -> None:
    plain_file, path = converted_checkpoint(tmp_path / "plain.pt", LARGE), tmp_path / "full.pt"
    state = torch.load(plain_file, weights_only=True)
    state["task_cfg"] = {**state["task_cfg"], "data": Path("/data/train")}
    torch.save({**state, **unused()}, path, _use_new_zipfile_serialization=zipped, pickle_protocol=protocol)
    wavs = waves(7600)
    expected, found = (hub.wav2vec2_vq_custom(ckpt=str(each)).eval()(wavs) for each in (plain_file, path))
    assert torch.equal(found["codes"], expected["codes"])
    out = convert(path, tmp_path / "out.safetensors")
    assert json.loads(out.with_suffix(".json").read_text())["task_cfg"] == fairseq.load(plain_file).task_cfg


def test_class_in_a_field_that_the_model_takes_is_refused_by_name(tmp_path: Path) -> None:
    path = converted_checkpoint(tmp_path / "tiny.pt", LARGE)
    state = torch.load(path, weights_only=True)
    state["model_cfg"]["activation_fn"] = [Path("gelu")]
    torch.save(state, path)
    with pytest.raises(InputError, match=r"refused: it asks to import pathlib\.PosixPath;") as refusal:
        hub.wav2vec2_vq_custom(ckpt=str(path))
    assert str(refusal.value).startswith(f"{path}: ")


# --------------------------------------------------------------------------------------- weights of no number
def test_every_published_format_refuses_weights_that_are_not_finite(tmp_path: Path) -> None:
    path = converted_checkpoint(tmp_path / "tiny.pt", LARGE)
    whole = fairseq.load(path)
    for bad in (float("nan"), float("inf"), -float("inf")):
        weights = {name: weight.clone() for name, weight in whole.model_weight.items()}
        weights["quantizer.weight_proj.bias"].view(-1)[3] = bad
        damaged = dataclasses.replace(whole, model_weight=weights)
        for file in (tmp_path / "a.pt", tmp_path / "a.safetensors"):
            fairseq.save(damaged, file)
            with pytest.raises(
                InputError, match=r"not finite: quantizer\.weight_proj\.bias holds NaN"
            ) as refusal:
                hub.wav2vec2_vq_custom(ckpt=str(file))
            assert str(refusal.value).startswith(f"{file}: ")
            assert len(str(refusal.value).splitlines()) == 1


@golden.needed
def test_nan_weight_is_refused_by_its_name() -> None:
    with pytest.raises(InputError, match=r"nan_weight\.pt: its weights are not finite: feature_extractor\."):
        hub.wav2vec2_vq_custom(ckpt=str(golden.CASES / "nan_weight.pt"))


# --------------------------------------------------------------------------------- a quantizer under other names
@golden.needed
@pytest.mark.parametrize("source", MODELS.values())
@pytest.mark.parametrize("around", ["module.", "w2v_encoder.w2v_model.", "module.w2v_encoder.w2v_model."])
def test_quantizer_within_another_model_is_taken(tmp_path: Path, source: str, around: str) -> None:
    path, content = (
        tmp_path / "around.pt",
        torch.load(golden.CHECKPOINTS / f"{source}.pt", weights_only=False),
    )
    weights = {f"{around}{name}": weight for name, weight in content["model"].items()}
    if "w2v_encoder" in around:
        head = around.removesuffix("w2v_model.")
        weights |= {f"{head}proj.weight": torch.zeros(3, 48), f"{head}proj.bias": torch.zeros(3)}
        args, cfg = content["args"], content["cfg"]
        outer = {
            "w2v_args": args or cfg,
            "w2v_path": "/data/wav2vec.pt",
            "conv_feature_layers": "[(1, 1, 1)]",
        }
        content["args"] = argparse.Namespace(**outer, arch="wav2vec_ctc") if args else None
        content["cfg"] = (
            {"model": {**outer, "_name": "wav2vec_ctc"}, "task": {"_name": "audio_finetuning"}}
            if cfg
            else None
        )
    torch.save({**content, "model": weights}, path)
    assert_equals_fairseq(hub.wav2vec2_vq_custom(ckpt=str(path)).eval(), source, golden.expected("fairseq"))


@pytest.mark.parametrize(
    ("config", "way_out"),
    [
        ({"cfg": {"model": {"_name": "hubert"}, "task": {}}}, "is a hubert, .*vqpool kmeans"),
        ({"cfg": {"model": {"_name": "data2vec_audio"}, "task": {}}}, "is a data2vec_audio, .*vqpool kmeans"),
        ({"args": argparse.Namespace(arch="hubert")}, "is a hubert, .*vqpool kmeans"),
        ({"args": argparse.Namespace(arch="wav2vec_ctc")}, "fine-tuned .*use the pre-trained"),
        ({"args": argparse.Namespace(arch="wav2vec2")}, "fine-tuned .*use the pre-trained"),
        ({"args": argparse.Namespace()}, "fine-tuned .*use the pre-trained"),
    ],
    ids=str,
)  # fmt: skip
def test_models_without_a_quantizer_get_the_way_out_that_leads_on(
    tmp_path: Path, config: dict[str, Any], way_out: str
) -> None:
    path = tmp_path / "other.pt"
    torch.save({"model": {"label_embs_concat": torch.zeros(1)}, **config}, path)
    with pytest.raises(InputError, match=way_out) as refusal:
        hub.wav2vec2_vq_custom(ckpt=str(path))
    assert len(str(refusal.value).splitlines()) == 1


PREFIX = "w2v_encoder.w2v_model."


@pytest.mark.parametrize(
    ("before", "task", "model"),
    [
        ({"task": {"t": 1}, "model": {"m": 2}}, {"t": 1}, {"m": 2}),
        ({"task": "audio_pretraining", "arch": "wav2vec2"}, None, None),  # fairseq's `args`: both at once
        ({"task": {"t": 1}, "model": "wav2vec2"}, None, None),
        ({"task": "audio_pretraining", "model": {"m": 2}}, None, None),
    ],
)
def test_configs_of_the_model_within_are_those_it_was_made_with(before: dict, task: Any, model: Any) -> None:
    weights = {
        f"module.{PREFIX}quantizer.vars": torch.zeros(1),
        f"module.{PREFIX}a": torch.ones(1),
        "module.b": None,
    }
    found = fairseq._unwrapped({"outer": 1}, {"w2v_args": before}, weights)
    assert found[:2] == (before if task is None else task, before if model is None else model)
    assert sorted(found[2]) == ["a", "quantizer.vars"]


def test_what_has_no_model_within_stays_as_it_is() -> None:
    for weights in (None, [], {}, {1: 2}, {"a": 1}, {f"{PREFIX}a": 1}, {"module.a": 1, "b": 2}):
        task, model, found = fairseq._unwrapped("task", "model", weights)
        assert (task, model, found) == ("task", "model", weights)
    assert fairseq._unwrapped("task", "model", {"module.a": 1}) == ("task", "model", {"a": 1})
    inner = {f"{PREFIX}quantizer.vars": 1, "proj": 2}
    for model in (None, {}, {"w2v_args": None}, {"w2v_args": "text"}):
        assert fairseq._unwrapped("task", model, inner) == ("task", model, {"quantizer.vars": 1})
