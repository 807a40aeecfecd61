"""docs/guides/add-an-upstream.md: its folder is an upstream of S3PRL, and keeps the contract."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import s3prl_vqpool  # noqa: F401 (S3PRL's own modules import after it on every stack)

# isort: split
import pytest
import s3prl.upstream
import torch
from s3prl import hub

from s3prl_vqpool.errors import InputError
from s3prl_vqpool.runner import plugin

TESTS = Path(__file__).parents[1]
PAGE = (TESTS.parent / "docs" / "guides" / "add-an-upstream.md").read_text()
BLOCKS = re.findall(r"^```python(?: title=\"([^\"]*)\")?\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
FILES = {Path(title): text for title, text in BLOCKS if title}
(LIBRARY,) = (text for title, text in BLOCKS if not title)
NAME = "fbank_mfcc_vq"


@pytest.fixture(scope="module")
def entry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The page's upstream, on S3PRL's hub for the tests of this file alone."""
    root = tmp_path_factory.mktemp("guide")
    for path, text in FILES.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
        (root / path).with_name("__init__.py").touch()
    before = list(s3prl.upstream.__path__)
    s3prl.upstream.__path__.append(str(root / "upstream_expert"))
    found = plugin.entries_below(root / "upstream_expert")
    vars(hub).update(found)
    yield found[NAME]
    for name in found:
        delattr(hub, name)
    s3prl.upstream.__path__[:] = before


def test_the_page_has_the_files_that_it_names(entry: Any) -> None:
    assert [path.name for path in FILES] == ["expert.py", "hubconf.py"]
    assert len([line for text in FILES.values() for line in text.splitlines() if line.strip()]) <= 60


def test_the_library_gives_what_the_page_says(entry: Any) -> None:
    found: dict[str, Any] = {}
    exec(LIBRARY, found)
    assert found["result"]["codes"].shape == (2, 98, 2)
    assert found["result"]["code_lengths"].tolist() == [98, 48]
    wavs = [torch.randn(16000, generator=torch.Generator().manual_seed(0))]
    assert torch.equal(entry()(wavs)["codes"], hub.mfcc_vq()(wavs)["codes"])


def test_the_contract_holds(entry: Any) -> None:
    """Every test of the contract that takes plain and ours, and nothing else."""
    sys.path.insert(0, str(TESTS / "upstream_expert"))
    import test_contract as contract

    pair = hub.fbank().eval(), entry().eval()
    tests = [
        test
        for name, test in vars(contract).items()
        if name.startswith("test_") and list(inspect.signature(test).parameters) == ["pair"]
    ]
    assert len(tests) >= 3
    for test in tests:
        if "cuda" not in test.__name__:
            test(pair)


def test_an_option_that_the_entry_does_not_name_is_refused(entry: Any) -> None:
    with pytest.raises(InputError, match=r"-k my\.pt: fbank_mfcc_vq has weights of its own"):
        entry(ckpt="my.pt")


def test_models_of_two_frame_rates_are_refused(entry: Any) -> None:
    class Slower(type(entry())):
        def quantize(self, result: dict[str, Any], wavs: list[torch.Tensor]) -> torch.Tensor:
            return super().quantize(result, wavs)[:, ::2]

    with pytest.raises(InputError, match="codes of 49 frames, but hidden states of 98"):
        Slower()([torch.randn(16000)])
