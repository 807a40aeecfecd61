"""The first hidden states alone are those of the whole model, and give the same codes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import s3prl_vqpool  # noqa: F401 (S3PRL's own modules import after it on every stack)

# isort: split
import pytest
import torch
from s3prl import hub
from s3prl.upstream.interfaces import UpstreamBase
from tiny import BASE, LARGE, converted_checkpoint, waves

from s3prl_vqpool.codes import partial
from s3prl_vqpool.codes.codebook import Codebook
from s3prl_vqpool.codes.kmeans import KMeansCodebooks
from s3prl_vqpool.errors import InputError

LAYERS = 3


@pytest.fixture(scope="module", params=[BASE, LARGE], ids=["base", "large"])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(converted_checkpoint(tmp_path_factory.mktemp("tiny") / "tiny.pt", request.param))


@pytest.fixture
def computed() -> Callable[[Any], list[int]]:
    """`computed(upstream)`: the layers of the transformer that run from now on."""

    def note(upstream: Any) -> list[int]:
        seen: list[int] = []
        for number, layer in enumerate(upstream.model.encoder.layers):
            layer.register_forward_pre_hook(lambda *_, number=number: seen.append(number))
        return seen

    return note


@torch.no_grad()
@pytest.mark.parametrize("layer", range(LAYERS))
def test_first_hidden_states_equal_the_whole_models(
    checkpoint: str, computed: Callable[[Any], list[int]], layer: int
) -> None:
    upstream = hub.wav2vec2_local(ckpt=checkpoint).eval()
    assert partial.stops_after(upstream, layer)
    ran = computed(upstream)
    for wav in waves(8000, 12345, 16000):
        whole = upstream([wav])["hidden_states"]
        ran.clear()
        found = partial.hidden_states(upstream, [wav], layer)
        assert max(ran, default=-1) <= layer
        assert len(found) == layer + 1
        for mine, theirs in zip(found, whole):
            assert torch.equal(mine[:, : theirs.size(1)], theirs)
        assert len(upstream([wav])["hidden_states"]) == LAYERS + 1  # nothing is left of it


def codebooks(path: Path, layer: int) -> str:
    centroids = torch.randn(8, 48, generator=torch.Generator().manual_seed(1))
    KMeansCodebooks((centroids,), ((0, 48),), {}, (layer,)).save(path)
    return str(path)


@pytest.mark.parametrize("layer", [0, 1, 2, 3])
def test_codes_alone_are_those_of_a_call(
    checkpoint: str, computed: Callable[[Any], list[int]], layer: int, tmp_path: Path
) -> None:
    books = codebooks(tmp_path / "books.safetensors", layer)
    Codebook("wav2vec2_local", books, 400, 320, checkpoint).save(tmp_path / "books.yaml")
    ours = hub.kmeans_vq(model_config=str(tmp_path / "books.yaml")).eval()
    for wav in waves(400, 8000, 12345):
        with torch.no_grad():
            assert torch.equal(ours.codes_alone(wav), ours([wav])["codes"][0])
    ran = computed(ours.upstream)
    ours.codes_alone(wav)
    assert sorted(ran) == list(range(min(layer + 1, LAYERS)))


def test_codes_alone_of_a_state_that_is_not_finite_are_refused(checkpoint: str, tmp_path: Path) -> None:
    books = codebooks(tmp_path / "books.safetensors", 1)
    Codebook("wav2vec2_local", books, 400, 320, checkpoint).save(tmp_path / "books.yaml")
    ours = hub.kmeans_vq(model_config=str(tmp_path / "books.yaml")).eval()
    ours.codes_alone(waves(8000)[0])
    with torch.no_grad():
        ours.upstream.model.encoder.layers[0].fc1.weight[0, 0] = float("nan")
    with pytest.raises(InputError, match="hidden states are not"):
        ours.codes_alone(waves(8000)[0])


class Changes(UpstreamBase):
    """An upstream that changes its hidden states after the hooks."""

    def __init__(self, change: Callable[[list], list] | None) -> None:
        super().__init__(hook_postprocess=change)
        self.layers = torch.nn.ModuleList(torch.nn.Linear(1, 1) for _ in range(3))
        for number in range(3):
            self.add_hook(f"self.layers[{number}]", lambda given, output: output)

    def forward(self, wavs: list[torch.Tensor]) -> None:
        states = wavs[0][None, :, None]
        for layer in self.layers:
            states = layer(states)


def test_upstream_that_changes_its_hidden_states_is_run_as_a_whole() -> None:
    reverse = lambda states: states[::-1]  # noqa: E731
    assert partial.stops_after(Changes(None), 1) is True
    assert partial.stops_after(Changes(reverse), 1) is False
    assert partial.stops_after(hub.mfcc(), 0) is False
    for layer in (-1, 2, 3):  # the last layer needs the whole model
        assert partial.stops_after(Changes(None), layer) is False
