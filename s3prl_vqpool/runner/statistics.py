"""Training statistics of a pooling: one pass over the training set, or a file; and whose they are."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset
from tqdm import tqdm

from .. import codes, pooling
from ..codes.upstream import WithCodes
from ..corpora import UtteranceDataset, collate
from ..corpora.sampling import rank_and_world
from ..errors import InputError
from ..pooling import Counts, LinearMap, Method, SoftDecay, Whitening
from ..pooling.files import read_identity

BATCH = 8
#: Of poolings of kind "vector": the linear map of training vectors.
FITS = {"Whitening": Whitening.fit, "SoftDecay": SoftDecay.fit}

Statistics = Counts | LinearMap


def obtain(
    method: Method,
    upstream: nn.Module,
    featurizer: nn.Module,
    training_set: UtteranceDataset,
    given: str | Path | None,
    stored: Path,
) -> Statistics:
    """The statistics that ``method`` needs, on the CPU.

    Args:
        method: a pooling that needs statistics.
        upstream: one that publishes codes.
        featurizer: S3PRL's, for Whitening and SoftDecay, which are fitted on the vectors it selects.
        training_set: what a pass goes over; with several processes each takes its share.
        given: a file to take them from, of whatever corpus; None to make a pass.
        stored: where the result of a pass is kept; a file there of the same kind, upstream, selection (Whitening
            and SoftDecay) and training set is used.

    Raises:
        InputError: ``given`` is missing or damaged, or was made with another upstream or selection.
    """
    identity = whose(upstream)
    if method.kind == "vector":
        identity.update(_selected(featurizer))
    if given is not None:
        return load(method, given, identity)
    identity["training set"] = hash_of(training_set)
    if stored.is_file() and read_identity(stored) == (_kind(method), identity):
        return load(method, stored, identity)
    found = _one_pass(method, upstream, featurizer, training_set)
    if rank_and_world()[0] == 0:
        found.save(stored, identity)
    return found


def _kind(method: Method) -> str:
    """The kind of statistics in a file of ``method``'s."""
    return method.name if method.kind == "vector" else "counts"


def _selected(featurizer: nn.Module) -> dict[str, object]:
    """What the vectors of S3PRL's Featurizer depend on beside the upstream: `-s`, `-l`, normalisation."""
    return {
        "selection": featurizer.feature_selection,
        "layer": featurizer.layer_selection,
        "normalize": featurizer.normalize,
    }


def load(method: Method, path: str | Path, expect: dict[str, object]) -> Statistics:
    """Statistics for ``method`` from a file; InputError where they are another upstream's."""
    if method.kind == "vector":
        return LinearMap.load(method.name, path, expect)
    return Counts.load(path, expect)


def whose(upstream: nn.Module) -> dict[str, object]:
    """What statistics depend on: the upstream's kind and a hash of its weights."""
    if not isinstance(upstream, WithCodes):
        raise InputError(
            f"{type(upstream).__module__} publishes no codes, so there are no statistics of them: "
            "use an upstream with codes (vqpool list upstreams)."
        )
    return upstream.identity()


def _one_pass(
    method: Method, upstream: nn.Module, featurizer: nn.Module, training_set: UtteranceDataset
) -> Statistics:
    was_training = upstream.training
    upstream.eval()
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(0)
        if method.kind == "vector":
            vectors = torch.cat(list(_average_vectors(upstream, featurizer, training_set)))
            found: Statistics = FITS[method.name](_gathered(vectors))
        else:
            found = sum(_counts(upstream, training_set)).all_reduce()  # type: ignore[union-attr]
    upstream.train(was_training)
    return found


def _counts(upstream: nn.Module, training_set: UtteranceDataset) -> Iterator[Counts]:
    for wavs in _batches(upstream, training_set):
        result = upstream(wavs)
        sizes: tuple[int, ...] = upstream.codebook_sizes  # type: ignore[assignment]
        yield pooling.counts(result["codes"], result["code_lengths"], sizes).to("cpu")


def _average_vectors(
    upstream: nn.Module, featurizer: nn.Module, training_set: UtteranceDataset
) -> Iterator[Tensor]:
    """AP vectors [B, D] of the hidden states that the Featurizer selects."""
    for wavs in _batches(upstream, training_set):
        features = featurizer(wavs, upstream(wavs))
        real = codes.require([len(feature) for feature in features], "statistics").lengths.tolist()
        yield torch.stack([feature[:n].mean(dim=0) for feature, n in zip(features, real)]).cpu()


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
