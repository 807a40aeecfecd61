"""`import s3prl_vqpool` is light, registers with S3PRL whenever that is imported, and is felt by nobody else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from s3prl_vqpool.cli.main import VERBS

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
HEAVY = ("torch", "numpy", "s3prl", "torchaudio", "transformers", "huggingface_hub", "soundfile", "yaml")

#: What a bystander sees of the process, by name.
BYSTANDER = """
import importlib.util, json, logging, sys, warnings
def seen():
    import huggingface_hub, torch
    torchaudio = sys.modules.get("torchaudio")
    return {
        "filters": list(map(str, warnings.filters)),
        "meta_path": [getattr(finder, "__name__", type(finder).__name__) for finder in sys.meta_path],
        "path_hooks": list(map(str, sys.path_hooks)),
        "safe globals": sorted(map(str, torch.serialization.get_safe_globals())),
        "HfFolder": hasattr(huggingface_hub, "HfFolder"), "Repository": hasattr(huggingface_hub, "Repository"),
        "catalyst": importlib.util.find_spec("catalyst") is not None,
        "import": __import__.__module__, "torch.load": torch.load.__module__, "torch.save": torch.save.__module__,
        "stand-ins": sorted(name for name, module in sys.modules.items() if type(module).__module__ != "builtins"
                            and type(module).__module__.startswith("s3prl_vqpool")),
        "torchaudio": torchaudio and {name: getattr(getattr(torchaudio, name, None), "__module__", None)
                                      for name in ("load", "set_audio_backend", "sox_effects", "info", "save")},
    }
"""


def in_fresh_python(code: str, *options: str) -> Any:
    """The JSON that a new interpreter prints last."""
    ran = subprocess.run(
        [sys.executable, *options, "-c", code],
        cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout.splitlines()[-1])


def modules_after(code: str) -> list[str]:
    """Top-level packages of `HEAVY` that are loaded after ``code``."""
    loaded = f"[name for name in {HEAVY!r} if name in sys.modules]"
    return in_fresh_python(f"import json, sys\n{code}\nprint(json.dumps({loaded}))")


def test_importing_the_package_imports_nothing_heavy() -> None:
    assert modules_after("import s3prl_vqpool, s3prl_vqpool.errors, s3prl_vqpool.runner.plugin") == []


def test_embedder_is_imported_when_it_is_asked_for() -> None:
    code = """
import json, sys, s3prl_vqpool
assert "torch" not in sys.modules and not hasattr(s3prl_vqpool, "Embeder") and "torch" not in sys.modules
from s3prl_vqpool import Embedder
print(json.dumps([Embedder.__module__, "torch" in sys.modules]))
"""
    assert in_fresh_python(code) == ["s3prl_vqpool.store.embedder", True]


def test_pooling_brings_torch_alone() -> None:
    brought = modules_after("import s3prl_vqpool.pooling")
    assert set(brought) <= set(modules_after("import torch, safetensors.torch"))
    assert "torch" in brought


@pytest.mark.parametrize("argv", [["--help"], ["trian"], [], *([*verb.split(), "--help"] for verb in VERBS)])
def test_help_imports_nothing_heavy(argv: list[str]) -> None:
    code = (
        "from s3prl_vqpool.cli import main\n"
        f"try: main({argv!r})\nexcept SystemExit as stopped: assert stopped.code in (0, 2)"
    )
    assert modules_after(code) == []


def test_a_bystander_sees_nothing_of_importing_the_package() -> None:
    code = f"{BYSTANDER}\nbefore = seen()\nimport s3prl_vqpool\nprint(json.dumps([before, seen()]))"
    before, after = in_fresh_python(code)
    assert before == after


def test_a_bystander_sees_nothing_of_our_part_in_the_import_of_s3prl() -> None:
    """Other libraries that S3PRL brings change things too: here they have been imported before, each as it can be."""
    code = f"""{BYSTANDER}
import warnings; warnings.simplefilter("default")
import s3prl_vqpool
from s3prl_vqpool.runner import hook
import s3prl.hub, s3prl.run_downstream   # once, to bring all that S3PRL brings
torchaudio = sys.modules["torchaudio"]
for name in [name for name in sys.modules if name.partition(".")[0] == "s3prl"]:
    del sys.modules[name]
before = seen()
import s3prl.hub, s3prl.run_downstream
from s3prl.downstream.speech_commands import expert
assert callable(s3prl.hub.mfcc_vq) and s3prl.hub.mfcc_vq()
print(json.dumps([before, seen()]))
"""
    before, after = in_fresh_python(code)
    before.pop("filters"), after.pop("filters")
    assert before == after
    assert after["import"] == "builtins"
    assert after["stand-ins"] == []
    assert after["catalyst"] == (not missing("catalyst"))
    assert after["torchaudio"]["load"].split(".")[0] == "torchaudio"
    assert not any("s3prl" in finder.lower() for finder in after["meta_path"])
    assert "Namespace" not in str(after["safe globals"])


def missing(name: str) -> bool:
    import importlib.util

    return importlib.util.find_spec(name) is None


def test_no_filter_of_ours_swallows_the_warnings_of_others() -> None:
    code = """
import json, warnings
import s3prl_vqpool, s3prl.hub
with warnings.catch_warnings(record=True) as caught:
    warnings.warn("CUDA is not available.")
    warnings.warn("torch.cuda.amp.autocast(args...) is deprecated", FutureWarning)
print(json.dumps(len(caught)))
"""
    assert in_fresh_python(code) == 2


@pytest.mark.parametrize(
    "first",
    [
        "import s3prl.hub",
        "import s3prl",
        "from s3prl.nn import S3PRLUpstream; assert 'mfcc_vq' in S3PRLUpstream.available_names()",
        "import s3prl.downstream.runner",
        "import s3prl.run_downstream",
        "from s3prl.downstream.vqpool_ks.expert import DownstreamExpert",
        "import s3prl.upstream.kmeans_vq.expert",
        "s3prl_vqpool.register()",
    ],
)
def test_names_are_there_whatever_of_s3prl_is_imported_first(first: str) -> None:
    code = f"""
import json, s3prl_vqpool
{first}
import importlib, s3prl.hub, s3prl.downstream
importlib.import_module("s3prl.downstream.vqpool_er.expert")
print(json.dumps([s3prl.hub.mfcc_vq.__module__, len(set(s3prl.downstream.__path__))]))
"""
    assert in_fresh_python(code) == ["s3prl.upstream.kmeans_vq.hubconf", 2]


def test_s3prl_imported_before_us_gets_the_names_at_once() -> None:
    """The finders are taken away to import S3PRL as if without us; where it cannot be, the repairs stay in place."""
    code = """
import json, sys
import s3prl_vqpool
from s3prl_vqpool.runner import hook, plugin
finish, hook.finish = hook.finish, lambda module: None
import s3prl.hub, s3prl.downstream.runner
assert not hasattr(s3prl.hub, "mfcc_vq")
hook.finish = finish
hook.install()
from s3prl_vqpool.runner import compat
print(json.dumps([s3prl.hub.mfcc_vq.__module__, isinstance(s3prl.downstream.runner.torch, compat.Overlay)]))
"""
    assert in_fresh_python(code) == ["s3prl.upstream.kmeans_vq.hubconf", True]


def test_a_missing_torchaudio_is_said_in_one_line_when_s3prl_is_imported() -> None:
    code = """
import json, sys
from importlib.machinery import PathFinder
found = PathFinder.find_spec
def find_spec(name, *rest):
    return None if name.split(".")[0] == "torchaudio" else found(name, *rest)
PathFinder.find_spec = find_spec
import warnings; warnings.simplefilter("error", UserWarning)
import s3prl_vqpool
warnings.simplefilter("default", UserWarning)
try:
    import s3prl.hub
except ImportError as error:
    print(json.dumps(str(error)))
"""
    line = in_fresh_python(code)
    assert "torchaudio" in line
    assert "vqpool doctor" in line
    assert len(line.splitlines()) == 1


def test_torch_hub_loads_an_upstream_from_the_repository() -> None:
    code = """
import json, torch
upstream = torch.hub.load(".", "mfcc_vq", source="local")
print(json.dumps(list(upstream.codebook_sizes)))
"""
    assert in_fresh_python(code) == [64, 64]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_dataset_of_ours_travels_to_workers(method: str, tmp_path: Path) -> None:
    import numpy as np
    import soundfile

    soundfile.write(tmp_path / "one.wav", np.zeros(16000), 16000)
    script = tmp_path / "script.py"
    script.write_text(f"""
import sys
import s3prl_vqpool, s3prl.hub
from pathlib import Path
from torch.utils.data import DataLoader
from s3prl_vqpool.corpora import Utterance, UtteranceDataset, collate
if __name__ == "__main__":
    utterances = [Utterance(Path({str(tmp_path / "one.wav")!r}), (0,), "one")]
    loader = DataLoader(UtteranceDataset(utterances), collate_fn=collate, num_workers=1,
                        multiprocessing_context={method!r})
    ((wavs, *_),) = loader
    print(len(wavs[0]))
""")
    ran = subprocess.run(
        [sys.executable, str(script)], env=ENVIRONMENT, capture_output=True, text=True, timeout=120
    )
    assert ran.stdout == "16000\n", ran.stderr
