"""What S3PRL finds after `import s3prl_vqpool`."""

import importlib
import subprocess
import sys
from pathlib import Path

import s3prl_vqpool  # noqa: F401 (S3PRL's own modules import after it on every stack)

# isort: split
import pytest
import s3prl.downstream
import s3prl.nn
import s3prl.upstream
import torch
import yaml
from s3prl import hub

from s3prl_vqpool.runner import plugin

ROOT = Path(__file__).resolve().parents[2]

#: Issue 2: one twin for each S3PRL name, and mfcc_vq.
TWINS = {
    "wav2vec2_vq": "wav2vec2",
    "wav2vec2_base_960_vq": "wav2vec2_base_960",
    "wav2vec2_large_960_vq": "wav2vec2_large_960",
    "wav2vec2_large_ll60k_vq": "wav2vec2_large_ll60k",
    "xlsr_53_vq": "xlsr_53",
    "xls_r_300m_vq": "xls_r_300m",
    "xls_r_1b_vq": "xls_r_1b",
    "xls_r_2b_vq": "xls_r_2b",
    "wav2vec2_vq_local": "wav2vec2_local",
    "wav2vec2_vq_url": "wav2vec2_url",
    "wav2vec2_vq_custom": "wav2vec2_custom",
    "mfcc_vq": "mfcc",
}
THEIRS = {  # our downstream: S3PRL's, whose config it continues
    "vqpool_ks": "speech_commands",
    "vqpool_sid": "voxceleb1",
    "vqpool_ic": "fluent_commands",
    "vqpool_er": "emotion",
}


def in_fresh_python(code: str) -> str:
    ran = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        env={"PATH": "", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_upstreams_are_the_documented_ones() -> None:
    assert set(TWINS) <= set(plugin.upstreams())
    for name in TWINS.values():
        assert callable(getattr(hub, name)), f"S3PRL has no {name}"


@pytest.mark.parametrize("name", sorted(plugin.upstreams()))
def test_upstream_is_an_entry_of_s3prls_hub(name: str) -> None:
    entry = getattr(hub, name)
    assert entry is plugin.upstreams()[name]
    assert name in hub.options()
    assert name in s3prl.nn.S3PRLUpstream.available_names()
    needs_checkpoint = name.endswith(("_local", "_url", "_custom"))
    assert (name in hub.options(only_registered_ckpt=True)) is not needs_checkpoint
    assert entry.__doc__


def test_registering_takes_no_name_from_s3prl() -> None:
    theirs = in_fresh_python(
        "from s3prl_vqpool.runner import plugin; plugin.add_to = lambda module: None\n"
        "import s3prl.hub\n"
        "print('\\n'.join(name for name in s3prl.hub.options()))"
    ).split()
    assert theirs
    assert not set(theirs) & set(plugin.upstreams())
    assert set(theirs) <= set(hub.options())


@pytest.mark.parametrize("name", THEIRS)
def test_downstream_is_imported_as_s3prls_runner_does(name: str) -> None:
    assert name in plugin.downstreams()
    expert = importlib.import_module(f"s3prl.downstream.{name}.expert").DownstreamExpert
    assert issubclass(expert, torch.nn.Module)
    for method in ("get_dataloader", "log_records", "forward"):
        assert callable(getattr(expert, method))
    theirs = importlib.import_module(f"s3prl.downstream.{THEIRS[name]}")
    assert Path(theirs.__path__[0]).parent == Path(s3prl.downstream.__file__).parent  # still its own


#: S3PRL 0.4.18's own configs, from its repository (its wheel carries none).
PROTOCOL = {
    "vqpool_ks": {"total_steps": 200000, "gradient_accumulate_steps": 1},
    "vqpool_sid": {"total_steps": 200000, "gradient_accumulate_steps": 4},
    "vqpool_ic": {"total_steps": 200000, "gradient_accumulate_steps": 1},
    "vqpool_er": {"total_steps": 30000, "gradient_accumulate_steps": 8},
}
DATA = {
    "vqpool_ks": {"speech_commands_root", "speech_commands_test_root", "batch_size", "num_workers"},
    "vqpool_sid": {
        "file_path",
        "meta_data",
        "max_timestep",
        "train_batch_size",
        "eval_batch_size",
        "num_workers",
    },
    "vqpool_ic": {"file_path", "train_batch_size", "eval_batch_size", "num_workers"},
    "vqpool_er": {
        "root",
        "meta_data",
        "test_fold",
        "valid_ratio",
        "pre_load",
        "train_batch_size",
        "eval_batch_size",
        "num_workers",
    },
}
EFFECTIVE_BATCH = {"vqpool_ks": 32, "vqpool_sid": 32, "vqpool_ic": 32, "vqpool_er": 32}


@pytest.mark.parametrize("name", THEIRS)
def test_default_config_is_superbs_protocol(name: str) -> None:
    config = yaml.load(plugin.default_config(name).read_text(), Loader=yaml.FullLoader)
    runner, data = config["runner"], config["downstream_expert"]["datarc"]
    assert {key: runner[key] for key in PROTOCOL[name]} == PROTOCOL[name]
    assert set(runner) >= {
        "total_steps",
        "gradient_clipping",
        "gradient_accumulate_steps",
        "log_step",
        "eval_step",
        "save_step",
        "max_keep",
        "eval_dataloaders",
    }
    assert runner["eval_dataloaders"][0] == "dev"
    assert config["optimizer"] == {"name": "TorchOptim", "torch_optim_name": "Adam", "lr": 1.0e-4}
    assert DATA[name] <= set(data)
    batch = data.get("batch_size", data.get("train_batch_size"))
    assert batch * runner["gradient_accumulate_steps"] == EFFECTIVE_BATCH[name]
    assert config["downstream_expert"]["modelrc"] == {"projector_dim": 256, "pooling": "VQ-LP"}


def test_registering_again_changes_nothing() -> None:
    before = (dict(vars(hub)), list(s3prl.upstream.__path__), list(s3prl.downstream.__path__))
    names = (plugin.upstreams(), plugin.downstreams())
    plugin.register()
    assert (dict(vars(hub)), list(s3prl.upstream.__path__), list(s3prl.downstream.__path__)) == before
    assert (plugin.upstreams(), plugin.downstreams()) == names
    assert len(set(names[1])) == len(names[1])
    for package in (s3prl.upstream, s3prl.downstream):
        assert len(set(package.__path__)) == len(list(package.__path__)) == 2


def test_names_handed_out_are_copies() -> None:
    plugin.upstreams().clear()
    plugin.downstreams().clear()
    assert plugin.upstreams()
    assert plugin.downstreams()


def test_hubconf_entries_are_its_own_public_functions() -> None:
    module = importlib.import_module("s3prl.upstream.wav2vec2_vq.hubconf")
    assert set(plugin.entries(module)) == {*TWINS, "wav2vec2_vq_tiny"} - {"mfcc_vq"}


def test_pooling_works_where_s3prl_is_not_installed() -> None:
    printed = in_fresh_python(
        "import sys\n"
        "class Without:\n"
        "    def __init__(self, finder):\n"
        "        self.finder = finder\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        hidden = name.partition('.')[0] in ('s3prl', 'torchaudio', 'soundfile', 'soxr', 'transformers')\n"
        "        return None if hidden else self.finder.find_spec(name, path, target)\n"
        "sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]\n"
        "try:\n"
        "    import s3prl\n"
        "except ModuleNotFoundError:\n"
        "    print('hidden')\n"
        "import warnings; warnings.simplefilter('error', UserWarning)\n"
        "import torch, s3prl_vqpool.pooling as pooling\n"
        "codes = torch.tensor([[[0, 5], [0, 5], [1, 5], [2, 6]]])\n"
        "print(pooling.weights('VQ-AllSquash-OR', codes, torch.tensor([4])).mul(6).round().tolist())\n"
        "print([name for name in sys.modules if name.partition('.')[0] in ('s3prl', 'torchaudio')])\n"
    )
    assert printed.splitlines() == ["hidden", "[[1.0, 1.0, 1.0, 3.0]]", "[]"]
