"""`vqpool list upstreams`: every upstream has a row, and its row is true where it can be checked here."""

from pathlib import Path

import s3prl_vqpool  # noqa: F401 (S3PRL's own modules import after it on every stack)

# isort: split
import pytest
from s3prl.upstream.npc import hubconf as npc
from s3prl.upstream.roberta import hubconf as roberta
from s3prl.upstream.vq_apc import hubconf as vq_apc
from s3prl.upstream.vq_wav2vec import hubconf as vq_wav2vec
from s3prl.upstream.wav2vec2 import hubconf as wav2vec2
from tiny import LARGE, converted_checkpoint

from s3prl_vqpool import cli
from s3prl_vqpool.codes.facts import FACTS
from s3prl_vqpool.runner import plugin


def test_every_upstream_has_its_facts_and_no_other() -> None:
    assert set(FACTS) == set(plugin.upstreams())


def test_list_upstreams_prints_the_columns(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["list", "upstreams"]) == 0
    heading, *rows = capsys.readouterr().out.splitlines()
    titles = ("upstream", "parameters", "frame", "codebooks", "licence", "weights from")
    starts = [heading.index(title) for title in titles]
    cells = {}
    for row in rows:
        parts = [row[start:stop].strip() for start, stop in zip(starts, [*starts[1:], None])]
        cells[parts[0]] = parts[1:]
    assert cells["mfcc_vq"][:4] == ["0", "10 ms", "2 x 64", "Apache-2.0"]
    assert cells["wav2vec2_vq"][:4] == ["95 M", "20 ms", "2 x 320", "MIT"]
    assert cells["kmeans_vq"][:4] == ["-"] * 4


@pytest.mark.parametrize("name", ["mfcc_vq", "fbank_vq", "wav2vec2_vq_tiny"])
def test_facts_of_shipped_upstreams_are_those_of_the_upstream(name: str) -> None:
    upstream, facts = plugin.upstreams()[name](), FACTS[name]
    count, entries = map(int, facts.codebooks.split(" x "))
    assert upstream.codebook_sizes == (entries,) * count
    assert facts.frame == f"{upstream.get_downsample_rates('hidden_states') // 16} ms"
    count = sum(parameter.numel() for parameter in upstream.parameters())
    assert facts.parameters == (f"{count / 1e6:.1f} M" if count else "0")


def test_frame_of_wav2vec2_is_the_upstreams(tmp_path: Path) -> None:
    path = converted_checkpoint(tmp_path / "tiny.pt", LARGE)
    upstream = plugin.upstreams()["wav2vec2_vq_custom"](ckpt=str(path))
    assert FACTS["wav2vec2_vq_custom"].frame == f"{upstream.get_downsample_rates('hidden_states') // 16} ms"


def test_files_are_those_that_s3prls_hubconf_names() -> None:
    source = "".join(Path(each.__file__).read_text() for each in (wav2vec2, vq_wav2vec, roberta, vq_apc, npc))
    for place, least in (("s3prl/converted_ckpts", 10), ("leo19941227/apc_series", 4)):
        named = [facts.origin.split(": ")[1] for facts in FACTS.values() if place in facts.origin]
        files = {file for each in named for file in each.split(", ")}
        assert len(files) == least
        for file in files:
            assert f"{place}/resolve/main/{file}" in source
