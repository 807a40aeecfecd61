#!/usr/bin/env python3
"""Make the file of `-u wav2vec2_vq_tiny` from the state of pretrain.py: safetensors, and the config as JSON.

Three things are set here that training does not determine:

1. The code of a frame is its most likely unit. A few units, above all silence, are much more frequent than others.
   So 0.7 times the log probability of each unit (`PRIOR`) is subtracted from its logit.
2. Each hidden state gets mean 0 over the training speech: biases move from the output of one layer to the input of the
   next. The layers compute the same, but angles between utterances no longer depend on a common offset.
3. Each entry of the quantizer's codebooks becomes the mean of the frames that it stands for.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import torch
from pretrain import Pretraining, hidden_states, latents
from s3prl.upstream.wav2vec2.wav2vec2_model import Wav2Vec2Model
from speech import Speech
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from s3prl_vqpool import checkpoints
from s3prl_vqpool.checkpoints import fairseq
from s3prl_vqpool.errors import InputError, report
from s3prl_vqpool.runner.config import Section

MOST_SAMPLES = 30 * 16000
#: 0 does not change the codes. 1 makes a code the unit under which the frame is most likely. With 0.5 the perplexity of
#: a codebook on the dev part of KS is below 32.
PRIOR = 0.7
#: Parameters that codes depend on stay float32.
FLOAT32 = ("feature_extractor.", "layer_norm.", "quantizer.")


@torch.no_grad()
def heard(model: Wav2Vec2Model, speech: Speech, every: int) -> Iterator[Tensor]:
    """Latents [T, C] of one clip in ``every``."""
    for index in tqdm(range(0, len(speech.starts) - 1, every), desc="latents", unit="clip", disable=None):
        wave = speech.clip(index)[:MOST_SAMPLES]
        yield latents(model, F.layer_norm(wave, wave.shape)[None])[0]


def logits(model: Wav2Vec2Model, frames: Tensor) -> Tensor:
    """Logits [T, G, V] of latents [T, C]. The index of the highest one is the code."""
    quantizer = model.quantizer
    return quantizer.weight_proj(frames).unflatten(1, (quantizer.groups, quantizer.num_vars))


@torch.no_grad()
def balance(model: Wav2Vec2Model, speech: Speech) -> None:
    """Subtract `PRIOR` times the log probability of each unit over the training speech (arXiv 2007.07314)."""
    total = sum(logits(model, frames).softmax(dim=2).sum(dim=0) for frames in heard(model, speech, 4))
    prior = total / total.sum(dim=1, keepdim=True)  # type: ignore[union-attr]
    model.quantizer.weight_proj.bias -= PRIOR * prior.log().flatten()


@torch.no_grad()
def measure(model: Wav2Vec2Model, speech: Speech) -> tuple[list[Tensor], Tensor]:
    """The mean of every hidden state [D], and the mean of the latents that each entry stands for [G, V, C]."""
    quantizer = model.quantizer
    means = [torch.zeros(model.encoder.embedding_dim) for _ in range(len(model.encoder.layers) + 1)]
    entries = torch.zeros(quantizer.groups, quantizer.num_vars, quantizer.input_dim)
    uses, count = torch.zeros(quantizer.groups, quantizer.num_vars), 0
    for frames in heard(model, speech, 1):
        for total, state in zip(means, hidden_states(model, frames[None])):
            total += state[0].sum(dim=0)
        for group, column in enumerate(logits(model, frames).argmax(dim=2).T):
            entries[group].index_add_(0, column, frames)
            uses[group] += column.bincount(minlength=quantizer.num_vars)
        count += len(frames)
    return [total / count for total in means], entries / uses.clamp(min=1)[..., None]


@torch.no_grad()
def centre(model: Wav2Vec2Model, means: list[Tensor]) -> None:
    """Subtract ``means`` from the hidden states, and add them again inside the layers that read them.

    Each hidden state is the output of a LayerNorm. One layer's attention and its residual connection read it.
    """
    encoder = model.encoder
    for norm, mean in zip([encoder.layer_norm, *(layer.final_layer_norm for layer in encoder.layers)], means):
        norm.bias -= mean
    for layer, mean in zip(encoder.layers, means):
        attention = layer.self_attn
        for project in (attention.q_proj, attention.k_proj, attention.v_proj):
            project.bias += project.weight @ mean
        attention.out_proj.bias += mean


@torch.no_grad()
def codes(model: Wav2Vec2Model, speech: Speech) -> Tensor:
    """Codes int64 [frames, G] of every tenth clip."""
    return torch.cat([logits(model, frames).argmax(dim=2) for frames in heard(model, speech, 10)])


def export(net: Pretraining, speech: Speech, path: Path) -> float:
    """Write ``path`` (.safetensors) and the .json beside it. Returns the share of codes that float16 keeps."""
    model = net.model.eval()
    balance(model, speech)
    means, entries = measure(model, speech)
    centre(model, means)
    model.quantizer.vars.data = entries.flatten(0, 1)[None]
    before = codes(model, speech)
    weights = {
        name: value if name.startswith(FLOAT32) else value.half()
        for name, value in model.state_dict().items()
    }
    model.load_state_dict({name: value.float() for name, value in weights.items()})
    after = codes(model, speech)
    fairseq.save(fairseq.Converted({"normalize": True}, net.config, weights), path)
    return float((before == after).all(dim=1).float().mean())


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example:\n  python recipes/tiny/export.py exp/tiny --speech corpora "
        "--output upstream_expert/wav2vec2_vq/tiny.safetensors",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("exp", type=Path, help="the folder given to pretrain.py as --output")
    parser.add_argument(
        "--speech", type=Path, required=True, help="the folder given to pretrain.py as --speech"
    )
    parser.add_argument("--output", type=Path, required=True, help=".safetensors file to write")
    parser.add_argument(
        "--untrained", action="store_true", help="export the network as it was before the first step"
    )
    args = parser.parse_args()
    try:
        if args.output.suffix != ".safetensors" or not args.output.parent.is_dir():
            raise InputError(f"--output {args.output}: expected a .safetensors file in a folder that exists.")
        state = checkpoints.load(args.exp / "state.pt", required=("identity", "net"))
        config = Section(str(args.exp), state["identity"]["config"])
        torch.manual_seed(config["seed"])
        net = Pretraining(config)
        if not args.untrained:
            net.load_state_dict(state["net"])
        speech = Speech.read(args.speech)
        if speech.list_hash != state["identity"]["speech"]:
            raise InputError(
                f"{args.speech}: not the speech that {args.exp} was trained on: give that folder."
            )
        same = export(net, speech, args.output)
    except InputError as error:
        return report(error)
    print(f"wrote {args.output}: float16 leaves {100 * same:.3f} % of the codes as they were in float32")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
