"""Training statistics of a pooling, from one pass over the training set or from a file; and what they belong to."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Subset
from tqdm import tqdm

from .. import codes, pooling
from ..codes.upstream import WithCodes
from ..corpora import UtteranceDataset, collate
from ..corpora.sampling import rank_and_world
from ..errors import InputError
from ..pooling import Counts, LinearMap, Method
from ..pooling.files import read_identity
from .head import pooled

BATCH = 8

Statistics = Counts | LinearMap


def obtain(
    method: Method,
    options: Mapping[str, Any],
    upstream: nn.Module,
    featurizer: nn.Module,
    training_set: UtteranceDataset,
    given: str | Path | None,
    stored: Path,
) -> list[Statistics]:
    """The statistics that ``method`` needs, on the CPU: counts of codes, a map, or both.

    Args:
        method: a pooling that needs statistics.
        options: a value of each of its options.
        upstream: one that publishes codes.
        featurizer: S3PRL's; a map is fitted on the pooled vectors of the frames that it selects.
        training_set: what a pass goes over; with several processes each takes its share.
        given: a file to take them from, of whatever corpus; None to make a pass.
        stored: where the result of a pass is kept; a file there of the same pooling (of any pooling, where only
            counts are needed), upstream, selection (for a map) and training set is used.

    Raises:
        InputError: ``given`` is missing or damaged, or was made with another upstream, selection or option.
    """
    identity = whose(upstream)
    if method.map is not None:
        changed = {o.name: options[o.name] for o in method.options if options[o.name] != o.default}
        identity.update(_selected(featurizer), **({"options": changed} if changed else {}))
    if given is not None:
        return load(method, given, identity)
    identity["training set"] = hash_of(training_set)
    if stored.is_file() and read_identity(stored) == (_kind(method), identity):
        return load(method, stored, identity)
    found = _passes(method, options, upstream, featurizer, training_set)
    if rank_and_world()[0] == 0:
        _save(found, stored, identity)
    return found


def _kind(method: Method) -> str:
    """The kind of statistics in a file of ``method``'s."""
    return "counts" if method.map is None else method.spec


def _selected(featurizer: nn.Module) -> dict[str, object]:
    """What the vectors of S3PRL's Featurizer depend on besides the upstream: `-s`, `-l`, normalisation."""
    return {
        "selection": featurizer.feature_selection,
        "layer": featurizer.layer_selection,
        "normalize": featurizer.normalize,
    }


def _save(found: Sequence[Statistics], path: Path, identity: dict[str, object]) -> None:
    """One file of counts, of a map, or of a map and the counts that its pooling needs."""
    counts = next((each for each in found if isinstance(each, Counts)), None)
    for each in found:
        if isinstance(each, LinearMap):
            each.save(path, identity, **(counts.tensors() if counts else {}))
            return
    if counts:
        counts.save(path, identity)


def load(method: Method, path: str | Path, expect: dict[str, object]) -> list[Statistics]:
    """Statistics for ``method`` from a file; InputError if they belong to another upstream."""
    found: list[Statistics] = []
    if method.needs_counts:
        found.append(Counts.load(path, expect, kind=_kind(method)))
    if method.map is not None:
        found.append(LinearMap.load(method.spec, path, expect))
    return found


def whose(upstream: nn.Module) -> dict[str, object]:
    """What statistics belong to: the upstream's kind and a hash of its weights."""
    if not isinstance(upstream, WithCodes):
        raise InputError(
            f"{type(upstream).__module__} publishes no codes, so they cannot be counted: "
            "use an upstream with codes (vqpool list upstreams)."
        )
    return upstream.identity()


def _passes(
    method: Method,
    options: Mapping[str, Any],
    upstream: nn.Module,
    featurizer: nn.Module,
    training_set: UtteranceDataset,
) -> list[Statistics]:
    """One pass over the training set for counts, and one for vectors, as far as they are needed."""
    was_training = upstream.training
    upstream.eval()
    found: list[Statistics] = []
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(0)
        if method.needs_counts:
            found.append(sum(_counts(upstream, training_set)).all_reduce())  # type: ignore[union-attr]
        if method.map is not None:
            vectors = _vectors(method.unmapped, options, found, upstream, featurizer, training_set)
            own = {option.name: options[option.name] for option in method.map.options}
            found.append(pooling.fit(method.name, _gathered(torch.cat(list(vectors))), **own))
    upstream.train(was_training)
    return found


def _counts(upstream: nn.Module, training_set: UtteranceDataset) -> Iterator[Counts]:
    for wavs in _batches(upstream, training_set):
        indices, lengths = upstream.codes_of(wavs)  # type: ignore[operator]
        sizes: tuple[int, ...] = upstream.codebook_sizes  # type: ignore[assignment]
        yield pooling.counts(indices, lengths, sizes).to("cpu")


def _vectors(
    method: Method,
    options: Mapping[str, Any],
    counts: Sequence[Statistics],
    upstream: nn.Module,
    featurizer: nn.Module,
    training_set: UtteranceDataset,
) -> Iterator[Tensor]:
    """Vectors [B, E] of a pooling without a map, of the hidden states that the Featurizer selects."""
    module = None
    for wavs in _batches(upstream, training_set):
        features = featurizer(wavs, upstream(wavs))
        lengths = [len(feature) for feature in features]
        published = codes.require(lengths, "statistics")
        frames = pad_sequence(features, batch_first=True)
        if module is None:
            module = pooling.build(method.name, frames.size(-1), **method.own(options))
            module.set_statistics(*counts)  # type: ignore[operator]
            module.to(frames.device)
        yield pooled(method, module, frames, torch.tensor(lengths, device=frames.device), published).cpu()


def _batches(upstream: nn.Module, training_set: UtteranceDataset) -> Iterator[list[Tensor]]:
    rank, world = rank_and_world()
    share = Subset(training_set, range(rank, len(training_set), world))
    device = next((tensor.device for tensor in upstream.state_dict().values()), torch.device("cpu"))
    loader = DataLoader(share, batch_size=BATCH, collate_fn=collate)
    for wavs, *_ in tqdm(loader, desc="training statistics", disable=None if rank == 0 else True):
        yield [torch.from_numpy(wav).to(device) for wav in wavs]


def _gathered(vectors: Tensor) -> Tensor:
    """The vectors of all processes."""
    if rank_and_world()[1] == 1:
        return vectors
    parts: list[Tensor] = [vectors] * rank_and_world()[1]
    dist.all_gather_object(parts, vectors)
    return torch.cat(parts)


def hash_of(training_set: UtteranceDataset) -> str:
    """SHA-256 of its utterances' ids, in their order."""
    digest = hashlib.sha256()
    for utterance in training_set.utterances:
        digest.update(f"{utterance.id}{os.linesep}".encode())
    return digest.hexdigest()
