"""The one line that a user sees."""

from __future__ import annotations

import re
from functools import partial

import pytest
import torch
from pooling_cases import EVERY, WEIGHTS, module, random_batch, training_counts

from s3prl_vqpool.errors import InputError
from s3prl_vqpool.pooling import (
    build,
    counts,
    fit,
    method,
    methods,
    points,
    pool,
    registry,
    select,
    weights,
)
from s3prl_vqpool.pooling.options import Option, positive

FRAMES, LENGTHS, CODES = random_batch([50, 50, 40, 30])


def changed(tensor: torch.Tensor, place: tuple[int, ...] | int, value: int) -> torch.Tensor:
    tensor = tensor.clone()
    tensor[place] = value
    return tensor


CASES = {
    "length of 0": (
        lambda: weights("AP", CODES, changed(LENGTHS, 3, 0)),
        "Expected lengths in [1, 50], but got 0 at index 3.",
    ),
    "length beyond T": (
        lambda: weights("VQ-LP", CODES, changed(LENGTHS, 1, 51)),
        "Expected lengths in [1, 50], but got 51 at index 1.",
    ),
    "length beyond T in a module": (
        lambda: build("SP", 6)(FRAMES, changed(LENGTHS, 0, 51)),
        "Expected lengths in [1, 50], but got 51 at index 0.",
    ),
    "float lengths": (
        lambda: weights("VQ-LP", CODES, LENGTHS / 2),
        "Expected lengths as integers, but got torch.float32.",
    ),
    "lengths of another batch": (
        lambda: weights("VQ-LP", CODES, LENGTHS[:3]),
        "Expected one length per utterance, [4], but got [3].",
    ),
    "float codes": (
        lambda: weights("VQ-LP", CODES.float(), LENGTHS),
        "Expected codes of an integer dtype, but got torch.float32.",
    ),
    "bool codes": (
        lambda: weights("VQ-LP", CODES > 0, LENGTHS),
        "Expected codes of an integer dtype, but got torch.bool.",
    ),
    "codes of one codebook without its dimension": (
        lambda: weights("VQ-LP", CODES[..., 0], LENGTHS),
        "Expected codes [B, T, G], but got [4, 50].",
    ),
    "no utterance": (
        lambda: weights("VQ-LP", CODES[:0], LENGTHS[:0]),
        "Expected codes [B, T, G], but got [0, 50, 2].",
    ),
    "negative code": (
        lambda: weights("VQ-LP", changed(CODES, (2, 39, 1), -3), LENGTHS),
        "Expected codes of codebook 1 in [0, 2**63), but got -3 at utterance 2, frame 39, codebook 1.",
    ),
    "code beyond sizes": (
        lambda: weights("VQ-LP", changed(CODES, (2, 39, 1), 7), LENGTHS, sizes=(5, 7)),
        "Expected codes of codebook 1 in [0, 6], but got 7 at utterance 2, frame 39, codebook 1.",
    ),
    "the first of several": (
        lambda: weights("VQ-LP", changed(changed(CODES, (2, 39), 9), (1, 44, 0), 5), LENGTHS, sizes=(5, 7)),
        "Expected codes of codebook 0 in [0, 4], but got 5 at utterance 1, frame 44, codebook 0.",
    ),
    "code beyond counts": (
        lambda: weights("VQ-GP", changed(CODES, (0, 0, 0), 5), LENGTHS, counts=training_counts()),
        "Expected codes of codebook 0 in [0, 4], but got 5 at utterance 0, frame 0, codebook 0.",
    ),
    "code beyond sizes while counting": (
        lambda: counts(changed(CODES, (3, 29, 0), 320), LENGTHS, (320, 320)),
        "Expected codes of codebook 0 in [0, 319], but got 320 at utterance 3, frame 29, codebook 0.",
    ),
    "counts of one codebook more": (
        lambda: weights("VQ-GP", CODES[..., :1], LENGTHS, counts=training_counts()),
        "Expected codes of 2 codebooks of sizes [5, 7], but got 1 in [4, 50, 1].",
    ),
    "counts of other sizes": (
        lambda: weights("VQ-GP", CODES, LENGTHS, counts=training_counts(), sizes=(320, 320)),
        "Expected counts of codebooks of sizes [320, 320], but got counts of [5, 7].",
    ),
    "size of 0": (
        lambda: counts(CODES, LENGTHS, (5, 0)),
        "Expected codebook sizes in [1, 2147483648], but got 0 for codebook 1.",
    ),
    "no counts": (
        lambda: weights("VQ-BP", CODES, LENGTHS),
        "VQ-BP needs counts of the training set's codes, but has none:"
        " give counts=, made by counts(codes, lengths, sizes).",
    ),
    "no counts in a module": (
        lambda: build("vq_sif", 6)(FRAMES, LENGTHS, CODES),
        "VQ-SIF needs counts of the training set's codes, but has none:"
        " give counts=, made by counts(codes, lengths, sizes).",
    ),
    "no statistics": (
        lambda: build("Whitening", 6)(FRAMES, LENGTHS),
        "Whitening needs statistics of the training set's AP vectors, but has none:"
        " give build() statistics=fit('Whitening', vectors).",
    ),
    "statistics of another pooling": (
        lambda: build("Whitening", 6, statistics=fit("SoftDecay", torch.randn(9, 6))),
        "Expected statistics of AP|whitening, but got those of AP|softdecay.",
    ),
    "statistics of another dimension": (
        lambda: build("Whitening", 6, statistics=fit("Whitening", torch.randn(9, 5))),
        "Expected Whitening statistics of dimension 6, but got 5.",
    ),
    "fit to a vector that is not finite": (
        lambda: fit("Whitening", changed(changed(torch.zeros(4, 6), 2, torch.nan), (3, 5), torch.inf)),
        "Expected finite vectors, but the one at index 2 is not.",
    ),
    "fit to one vector without its dimension": (
        lambda: fit("SoftDecay", torch.zeros(6)),
        "Expected vectors [N, E] of a floating dtype, but got [6] torch.float32.",
    ),
    "no codes": (
        lambda: build("VQ-LP", 6)(FRAMES, LENGTHS),
        "VQ-LP needs codes [B, T, G], but got none.",
    ),
    "codes of other T": (
        lambda: build("VQ-LP", 6)(FRAMES, LENGTHS, CODES[:, :49]),
        "Expected codes [B, T, G] with [B, T] = [4, 50] as in frames, but got [4, 49, 2].",
    ),
    "codes of other B": (
        lambda: build("VQ-LP", 6)(FRAMES, LENGTHS, CODES[:3]),
        "Expected codes [B, T, G] with [B, T] = [4, 50] as in frames, but got [3, 50, 2].",
    ),
    "frames of other D": (
        lambda: build("VAP", 7)(FRAMES, LENGTHS),
        "Expected frames [B, T, 7], but got [4, 50, 6].",
    ),
    "frames of other D under weights": (
        lambda: build("VQ-LP", 7)(FRAMES, LENGTHS, CODES),
        "Expected frames [B, T, 7], but got [4, 50, 6].",
    ),
    "integer frames": (
        lambda: build("AP", 6)(FRAMES.long(), LENGTHS),
        "Expected frames of a floating dtype, but got torch.int64.",
    ),
    "frames without their dimension": (
        lambda: pool(FRAMES[..., 0], torch.ones(4, 50)),
        "Expected frames [B, T, D], but got [4, 50].",
    ),
    "weights of other T": (
        lambda: pool(FRAMES, torch.ones(4, 49)),
        "Expected weights [B, T] = [4, 50], but got [4, 49].",
    ),
    "no weight per frame": (
        lambda: weights("softdecay", CODES, LENGTHS),
        "SoftDecay has no weight per frame; use build('SoftDecay', dim). With weights: "
        + ", ".join(WEIGHTS)
        + ".",
    ),
    "an option of another pooling": (
        lambda: build("VQ-LP", 6, a=0.1),
        "Unknown option of pooling VQ-LP: 'a'. Known: none.",
    ),
    "a of 0": (
        lambda: weights("VQ-SIF", CODES, LENGTHS, counts=training_counts(), a=0),
        "VQ-SIF: a: expected a number above 0, but got 0.",
    ),
    "an option of the wrong type": (
        lambda: build("VAP", 6, hidden=1.5),
        "VAP: hidden: expected a whole number from 1 up, but got 1.5.",
    ),
    "counts for a pooling without": (
        lambda: build("VQ-LP", 6, counts=training_counts()),
        "VQ-LP takes no counts: leave them out.",
    ),
    "statistics for a pooling without": (
        lambda: build("VQ-GP", 6, statistics=fit("Whitening", torch.randn(9, 6))),
        "VQ-GP takes no statistics of vectors: leave them out.",
    ),
    "an option with the name of an argument": (
        lambda: registry.register_weights("New", options=(Option("counts", 1, positive),)),
        "New: an option cannot be called 'counts'; choose another name.",
    ),
    "dim of 0": (lambda: build("AP", 0), "Expected dim >= 1, but got 0."),
    "unknown family": (
        lambda: registry.register_weights("New", family="moment"),
        "Unknown pooling family 'moment'. Did you mean moments?"
        " Known: moments, linear map, partition, probability, attention.",
    ),
    "registered twice": (
        lambda: registry.register_weights("vq_lp"),
        "Pooling 'vq_lp' is registered already, as 'VQ-LP'.",
    ),
    "a name with a sign of the grammar": (
        lambda: registry.register_weights("A+B"),
        "A+B: a name cannot have '+' in it; choose another name.",
    ),
    "a map of a name that stands for a point": (
        lambda: method("SP|whitening"),
        "SP|whitening: SP stands for AP+std: start from that. Expected WEIGHTS[+std][|MAP], such as VQ-LP+std.",
    ),
    "moments of a learned pooling": (
        lambda: method("SAP+std"),
        "SAP+std: SAP is learned with the head. Expected WEIGHTS[+std][|MAP], such as VQ-LP+std.",
    ),
    "unknown moments": (
        lambda: method("VQ-LP+var"),
        "Unknown moments in VQ-LP+var: '+var'. Known: +std.",
    ),
    "unknown map": (
        lambda: method("VQ-LP+std|white"),
        "Unknown map in VQ-LP+std|white: 'white'. Did you mean whitening?"
        " Known: standardise, whitening, softdecay.",
    ),
    "a pattern that matches nothing": (
        lambda: select(["VQ-*+var"], points()),
        "VQ-*+var: matches no pooling. Expected a pattern such as 'VQ-*+std|*'.",
    ),
    "weights of a point with a deviation": (
        lambda: weights("VQ-LP+std", CODES, LENGTHS),
        "VQ-LP+std has no weight per frame; use build('VQ-LP+std', dim). With weights: "
        + ", ".join(WEIGHTS)
        + ".",
    ),
    "fit of a pooling without a map": (
        lambda: fit("VQ-LP", torch.zeros(4, 6)),
        "VQ-LP has no map to fit; with one: VQ-LP|whitening, for instance.",
    ),
    "an unknown kind of shrinkage": (
        lambda: fit("AP|whitening", torch.randn(4, 6), shrinkage="ridge"),
        "AP|whitening: shrinkage: expected none or ledoit-wolf, but got 'ridge'.",
    ),
    "unknown name": (
        lambda: method("VQ-LQ"),
        "Unknown pooling 'VQ-LQ'. Did you mean VQ-LP or VQ-GP or VQ-BP? Known: " + ", ".join(methods()) + ".",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_error_message(case):
    call, message = CASES[case]
    with pytest.raises(InputError) as error:
        call()
    assert str(error.value) == message


@pytest.mark.parametrize("name", EVERY)
def test_method_case_and_separators_do_not_matter(name):
    for spelling in (name.lower(), name.upper(), name.replace("-", "_"), name.replace("-", "")):
        assert method(spelling) == method(name)


PUBLISHED = [
    *("mean", "AP", "SP", "Whitening", "SoftDecay", "VQ-Squash-AND", "VQ-Squash-OR", "VQ-Squash-OR@code"),
    *("VQ-AllSquash-AND", "VQ-AllSquash-OR", "VQ-SIF", "VQ-LP", "VQ-GP", "VQ-BP", "SAP", "ASP", "VAP"),
]


def test_methods_are_in_the_order_of_the_tables():
    """README promises S3PRL's `mean` and every pooling of the paper; others may stand between them."""
    assert [name for name in methods() if name in PUBLISHED] == PUBLISHED


def test_register_offers_a_new_pooling(monkeypatch):
    monkeypatch.setattr(registry, "_methods", dict(registry._methods))

    @registry.register_weights("First", family="moments")
    def first(batch):
        return torch.nn.functional.one_hot(torch.zeros(4, dtype=torch.int64), 50).float()

    assert methods().index("SP") < methods().index("First") < methods().index("Whitening")
    torch.testing.assert_close(build("first", 6)(FRAMES, LENGTHS), FRAMES[:, 0])


def test_module_refuses_loaded_statistics_of_another_dimension():
    pooling = build("Whitening", 6)
    pooling.load_state_dict(module("Whitening", dim=5).state_dict())
    with pytest.raises(InputError, match="Expected Whitening statistics of dimension 6, but got 5"):
        pooling(FRAMES, LENGTHS)


def test_module_takes_statistics_after_it_was_built():
    pooling = build("VQ-GP", 6)
    assert pooling.counts is None
    pooling.set_statistics(training_counts())
    torch.testing.assert_close(pooling(FRAMES, LENGTHS, CODES), module("VQ-GP")(FRAMES, LENGTHS, CODES))


def test_module_forgets_its_tables_when_it_loads_others():
    pooling, other = module("VQ-GP"), build("VQ-GP", 6, counts=training_counts(seed=8))
    before = pooling(FRAMES, LENGTHS, CODES)
    pooling.load_state_dict(other.state_dict())
    after = pooling(FRAMES, LENGTHS, CODES)
    torch.testing.assert_close(after, other(FRAMES, LENGTHS, CODES))
    assert not torch.allclose(before, after)


@pytest.mark.parametrize(
    "register",
    [
        registry.register_weights,
        registry.register_learned,
        registry.register_map,
        partial(registry.register_name, spec="AP+std", family="moments", source="", doc=""),
    ],
)
def test_every_way_to_register_checks_the_name(register, monkeypatch):
    for place in ("_methods", "_maps"):
        monkeypatch.setattr(registry, place, dict(getattr(registry, place)))
    for name, problem in (("A|B", "cannot have '|' in it"), ("A+B", "cannot have"), ("vq_lp", "already")):
        with pytest.raises(InputError, match=re.escape(problem)):
            register(name)
    if not isinstance(register, partial):
        with pytest.raises(InputError, match="an option cannot be called 'std'"):
            register("New", options=(Option("std", 1, positive),))
    assert register("New") is None or callable(register("Newer"))


def test_registered_maps_and_moments_are_points(monkeypatch):
    for place in ("_methods", "_maps", "_moments"):
        monkeypatch.setattr(registry, place, dict(getattr(registry, place)))

    @registry.register_map("Halved")
    def halved(vectors):
        """Half of it.

        And more.
        """
        return vectors[0] * 0, torch.full((vectors.shape[1],), 0.5, dtype=vectors.dtype)

    @registry.register_moments("twice")
    def twice(frames, w):
        return torch.cat([pool(frames, w)] * 2, dim=1)

    assert callable(halved)
    assert callable(twice)
    assert [each.doc for each in registry.maps() if each.name == "Halved"] == ["Half of it."]
    assert {"AP|Halved", "AP+twice", "AP+twice|Halved"} <= set(points())
    statistics = fit("AP|halved", torch.ones(3, 6))
    found = build("AP|halved", 6, statistics=statistics)(FRAMES, LENGTHS)
    torch.testing.assert_close(found, build("AP", 6)(FRAMES, LENGTHS) / 2)
    both = build("AP+twice", 6)
    assert both.output_dim == 12
    torch.testing.assert_close(both(FRAMES, LENGTHS), build("AP", 6)(FRAMES, LENGTHS).repeat(1, 2))
    assert (method("AP|halved").weights_name, method("AP+twice|halved").weights_name) == ("AP", "AP")
    assert method("AP+twice|halved").unmapped.name == "AP+twice"
