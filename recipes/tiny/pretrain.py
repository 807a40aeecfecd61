#!/usr/bin/env python3
"""Pre-train `-u wav2vec2_vq_tiny`: wav2vec 2.0's architecture by masked unit prediction (HuBERT, arXiv 2106.07447).

There are two kinds of units, one for each codebook: k-means clusters of MFCCs, and of their deltas. First the quantizer
learns to predict them from the CNN's output of one frame. Later the transformer is trained too. It predicts the units
of masked frames and, with less weight, those of the other frames. The input is sped up or slowed down and has added
noise, but the units come from the clean recording. `export.py` turns the result into the upstream's file.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import recipe
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from s3prl_vqpool import checkpoints
from s3prl_vqpool.errors import InputError, report
from s3prl_vqpool.files import alone, whole, write_text
from s3prl_vqpool.runner.config import Section

# isort: split
from s3prl.upstream.wav2vec2.wav2vec2_model import (
    Wav2Vec2Config,
    Wav2Vec2Model,
)  # after s3prl_vqpool, as above
from speech import UNITS, Speech, batch, units_of
from tensorboardX import SummaryWriter


def convolve(x: Tensor, conv: nn.Conv1d) -> Tensor:
    """`conv` over channels-last frames [B, T, C], as matrix products: much faster on a CPU than `F.conv1d`.

    Works for kernels of one to two strides: a window is a block of one stride and the beginning of the next block.
    """
    (kernel,), (stride,) = conv.kernel_size, conv.stride
    count = (x.size(1) - kernel) // stride + 1
    x = F.pad(x, (0, 0, 0, max(0, (count + 1) * stride - x.size(1))))[:, : (count + 1) * stride]
    blocks = x.reshape(len(x), count + 1, -1)  # [B, T' + 1, stride * C]
    taps = conv.weight.permute(2, 1, 0).flatten(0, 1)  # [kernel * C, O]
    first, rest = taps.split([blocks.size(2), len(taps) - blocks.size(2)])
    return blocks[:, :-1] @ first + blocks[:, 1:, : len(rest)] @ rest + conv.bias


def latents(model: Wav2Vec2Model, waves: Tensor) -> Tensor:
    """The layer-normed output of the CNN, [B, T, C], which is the input of the quantizer."""
    x = waves[:, :, None]
    for conv, _, (_, norm, _), _ in model.feature_extractor.conv_layers:
        x = F.gelu(norm(convolve(x, conv)))
    return model.layer_norm(x)


def hidden_states(model: Wav2Vec2Model, frames: Tensor, masked: Tensor | None = None) -> list[Tensor]:
    """S3PRL's hidden states of a batch without padding: [B, T, D] before the first layer and after each."""
    x = model.post_extract_proj(frames)
    if masked is not None:
        x = torch.where(masked[:, :, None], model.mask_emb.to(x.dtype), x)
    encoder = model.encoder
    states = [encoder.layer_norm(x + encoder.pos_conv(x.transpose(1, 2)).transpose(1, 2))]
    for layer in encoder.layers:
        x = states[-1]
        x = layer.self_attn_layer_norm(x + _attention(layer.self_attn, x))
        states.append(layer.final_layer_norm(x + layer.fc2(F.gelu(layer.fc1(x)))))
    return states


def _attention(attention: nn.Module, x: Tensor) -> Tensor:
    q, k, v = (
        project(x).unflatten(2, (attention.num_heads, -1)).transpose(1, 2)
        for project in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    return attention.out_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Pretraining(nn.Module):
    """The model, and a linear map to the units of both codebooks for each layer that has a loss."""

    def __init__(self, cfg: Section) -> None:
        super().__init__()
        self.config: dict[str, Any] = cfg["model"]
        self.model = Wav2Vec2Model(Wav2Vec2Config(**self.config))
        self.groups, self.entries = self.config["latent_groups"], self.config["latent_vars"]
        nn.init.xavier_uniform_(self.model.quantizer.weight_proj.weight)
        width = self.model.encoder.embedding_dim
        self.heads = nn.ModuleDict(
            {str(layer): nn.Linear(width, self.groups * self.entries) for layer in cfg["loss_layers"]}
        )

    def forward(self, waves: Tensor, units: Tensor, masked: Tensor | None) -> dict[str, Tensor]:
        """Cross-entropies and accuracies: of the quantizer on all frames, of the transformer on masked and other ones.

        Args:
            waves: float32 [B, samples]; units: int64 [B, T, G]; masked: bool [B, T], None for the quantizer alone.
        """
        frames = latents(self.model, waves)
        loss, accuracy, codes = self._compare(self.model.quantizer.weight_proj(frames), units)
        found = {
            "quantizer_loss": loss,
            "quantizer_accuracy": accuracy,
            "perplexity": perplexity(codes, self.entries),
        }
        if masked is not None:
            states = hidden_states(self.model, frames, masked)
            hidden, seen = (
                [
                    self._compare(head(states[int(layer)][part]), units[part])
                    for layer, head in self.heads.items()
                ]
                for part in (masked, ~masked)
            )
            found["loss"] = torch.stack([loss for loss, _, _ in hidden]).mean()
            found["seen_loss"] = torch.stack([loss for loss, _, _ in seen]).mean()
            found["accuracy"], found["seen_accuracy"] = hidden[-1][1], seen[-1][1]
        return found

    def _compare(self, logits: Tensor, units: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        logits = logits.float().unflatten(-1, (self.groups, self.entries)).flatten(0, -3)  # [N, G, V]
        units, best = units.flatten(0, -2), logits.argmax(dim=-1)
        return F.cross_entropy(logits.flatten(0, 1), units.flatten()), (best == units).float().mean(), best


def perplexity(codes: Tensor, entries: int) -> Tensor:
    """Perplexity of the indices of ``codes`` [N, G], averaged over the codebooks."""
    counts = F.one_hot(codes, entries).float().mean(dim=0)  # [G, V]
    return torch.exp(torch.special.entr(counts).sum(dim=1)).mean()


def rate_at(step: int, cfg: Section) -> float:
    """Learning rate: one warm-up for the quantizer, one for the transformer, and a linear decay to 0 at the end."""
    since = step - cfg["transformer_from"] * (step >= cfg["transformer_from"])
    left = (cfg["steps"] - step) / (cfg["decay"] * cfg["steps"])
    return cfg["learning_rate"] * min(1.0, (since + 1) / cfg["warmup_steps"], left)


class Trainer:
    """The state of training. A run that continues from what `save` wrote ends with the same weights."""

    def __init__(self, cfg: Section, speech: Speech, out: Path, device: str) -> None:
        self.cfg, self.speech, self.out, self.device = cfg, speech, out, device
        torch.manual_seed(cfg["seed"])
        self.net = Pretraining(cfg).to(device)
        self.step = 0
        self.curves: list[dict[str, float]] = []
        self.optimizer = torch.optim.AdamW(self.net.parameters(), betas=(0.9, 0.98), weight_decay=0.01)

    def identity(self) -> dict[str, Any]:
        """The config and the speech that a folder belongs to."""
        return {"config": dict(self.cfg), "speech": self.speech.list_hash}

    def save(self) -> None:
        state = {
            **{"identity": self.identity(), "step": self.step, "curves": self.curves},
            **{"net": self.net.state_dict(), "optimizer": self.optimizer.state_dict()},
        }
        with whole(self.out / "state.pt") as temporary:
            torch.save(state, temporary)
        write_text(self.out / "curves.json", json.dumps({**self.identity(), "curves": self.curves}) + "\n")

    def begin(self) -> None:
        """Continue what the folder holds, or claim an empty folder before anything is written to it."""
        if (self.out / "state.pt").exists():
            self.resume()
        else:
            (self.out / UNITS).unlink(missing_ok=True)
            self.save()

    def resume(self) -> None:
        state = checkpoints.load(
            self.out / "state.pt", required=("identity", "step", "curves", "net", "optimizer")
        )
        if state["identity"] != self.identity():
            raise InputError(
                f"{self.out}: was started with another config or other speech: choose another --output."
            )
        self.step, self.curves = state["step"], state["curves"]
        self.net.load_state_dict(state["net"])
        self.optimizer.load_state_dict(state["optimizer"])

    def run(self) -> None:
        """Train to the last step."""
        cfg, units, seen = self.cfg, units_of(self.speech, self.cfg, self.out), []
        bar = tqdm(total=cfg["steps"], initial=self.step, desc="training", disable=None)
        with SummaryWriter(str(self.out), purge_step=self.step + 1) as board, bar:
            begun = time.perf_counter()
            while self.step < cfg["steps"]:
                seen.append(self.update(units))
                self.step += 1
                bar.update()
                if self.step % cfg["log_steps"] == 0:
                    row = {k: float(torch.stack([s[k] for s in seen if k in s]).mean()) for k in seen[-1]}
                    seconds = len(seen) * cfg["crops"] * cfg["crop_seconds"]
                    row["hours_per_hour"] = seconds / (time.perf_counter() - begun)
                    self.curves.append({"step": self.step, **row})
                    for name, value in row.items():
                        board.add_scalar(name, value, self.step)
                    bar.set_postfix({name: f"{value:.3g}" for name, value in row.items()})
                    seen, begun = [], time.perf_counter()
                if self.step % cfg["save_steps"] == 0 or self.step == cfg["steps"]:
                    self.save()

    def update(self, units: Tensor) -> dict[str, Tensor]:
        rng = np.random.default_rng((self.cfg["seed"], self.step))
        waves, frames, masked = batch(self.speech, self.cfg, rng)
        joined = masked.to(self.device) if self.step >= self.cfg["transformer_from"] else None
        with torch.autocast(self.device, torch.bfloat16, enabled=self.device == "cuda"):
            found = self.net(waves.to(self.device), units[frames].to(self.device), joined)
        loss = self.cfg["quantizer_weight"] * found["quantizer_loss"]
        if joined is not None:
            loss = loss + found["loss"] + self.cfg["seen_weight"] * found["seen_loss"]
        loss.backward()
        nn.utils.clip_grad_norm_(self.net.parameters(), self.cfg["clip"])
        for group in self.optimizer.param_groups:
            group["lr"] = rate_at(self.step, self.cfg)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return {name: value.detach() for name, value in found.items()}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example:\n  python tests/real_speech.py corpora ks sid ic unlabelled\n"
        "  python recipes/tiny/pretrain.py recipes/tiny/tiny.yaml --speech corpora --output exp/tiny",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("config", type=Path)
    parser.add_argument(
        "--speech", type=Path, required=True, help="folder of corpora that tests/real_speech.py made"
    )
    parser.add_argument(
        "--output", type=Path, required=True, help="folder for the state, the curves and TensorBoard's events"
    )
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="KEY=VALUE", help="values that replace the config's"
    )
    parser.add_argument(
        "--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=("cpu", "cuda")
    )
    args = parser.parse_args()
    try:
        with alone(args.output):
            return pretrain(args)
    except InputError as error:
        return report(error)


def pretrain(args: argparse.Namespace) -> int:
    """Train, from where the folder is, and say on how much."""
    trainer = Trainer(recipe.read(args.config, args.set), Speech.read(args.speech), args.output, args.device)
    trainer.begin()
    weights = sum(parameter.numel() for parameter in trainer.net.model.parameters())
    print(f"{trainer.speech.hours:.2f} hours of speech, list {trainer.speech.list_hash}, {weights:,} weights")
    trainer.run()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
