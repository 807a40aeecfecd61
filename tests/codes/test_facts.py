"""Facts about upstreams: one record for each, as the models were published."""

from __future__ import annotations

from s3prl_vqpool.codes.facts import FACTS, Facts
from s3prl_vqpool.runner import plugin


def test_every_upstream_has_its_facts() -> None:
    assert set(FACTS) >= set(plugin.upstreams())
    for facts in FACTS.values():
        assert isinstance(facts, Facts)
        assert all(vars(facts).values())
        assert facts.origin != "-"


def test_base_is_base_size() -> None:
    assert FACTS["wav2vec2_vq"] == Facts(
        "95 M", "20 ms", "2 x 320", "MIT", "huggingface.co/s3prl/converted_ckpts: wav2vec_small.pt"
    )
