"""Where poolings are added: the device, and what is said of it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from s3prl_vqpool.errors import InputError
from s3prl_vqpool.store import add as filling


def test_poolings_are_added_on_the_device_of_the_extraction(monkeypatch: pytest.MonkeyPatch) -> None:
    def device(name: str) -> torch.device:
        return filling._device(SimpleNamespace(manifest={"device": name}, folder=Path("s")))  # type: ignore[arg-type]

    for there in (True, False):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert device("cpu") == torch.device("cpu")
    with pytest.raises(InputError, match="was extracted on cuda, which this torch does not see"):
        device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert device("cuda") == torch.device("cuda", 0)
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert device("cuda") == torch.device("cuda", 3)
