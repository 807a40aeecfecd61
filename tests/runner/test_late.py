"""S3PRL's hub is there before transformers' models are, and has the same classes."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest
import transformers

from s3prl_vqpool.runner import late, plugin


def test_the_hub_imports_no_model_of_transformers() -> None:
    code = "import sys, s3prl_vqpool, s3prl.hub; print(sorted(n for n in sys.modules if n.startswith('transformers')))"
    found = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize("name", late.MODULES)
def test_its_names_are_the_classes_of_transformers(name: str) -> None:
    plugin.register()
    module = importlib.import_module(name)
    found = {key: value for key, value in vars(module).items() if isinstance(value, late.Late)}
    assert "Wav2Vec2FeatureExtractor" in found
    assert len(found) == 2
    for key, value in found.items():
        assert value.from_pretrained == getattr(transformers, key).from_pretrained
        assert value.__name__ == key
    with pytest.raises(AttributeError, match="nothing"):
        _ = found["Wav2Vec2FeatureExtractor"].nothing


def test_everything_else_is_imported_as_before() -> None:
    asked = []
    imported = late.importer(lambda *given: asked.append(given))
    imported("torch", {}, {}, ("nn",), 0)
    imported("transformers", {}, {}, (), 0)
    imported("transformers", {}, {}, ("models",), 1)
    assert [(name, fromlist, level) for name, _, _, fromlist, level in asked] == [
        ("torch", ("nn",), 0),
        ("transformers", (), 0),
        ("transformers", ("models",), 1),
    ]
