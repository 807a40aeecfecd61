"""S3PRL on current releases: what the shims do, numerically, and that a stack without breakages stays as it is."""

import importlib
import json
import os
import re
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import s3prl_vqpool  # noqa: F401 (S3PRL's own modules import after it on every stack)

# isort: split
import numpy as np
import pytest
import soundfile
import torch
from s3prl.downstream import runner  # before torchaudio, which imports on every stack then

# isort: split
import torchaudio
from torch.utils.data import SequentialSampler

from s3prl_vqpool.corpora.sampling import DistributedSamplerWrapper
from s3prl_vqpool.errors import InputError
from s3prl_vqpool.runner import compat, sox

ROOT = Path(__file__).resolve().parents[2]
SHIMS = {shim.name: shim for shim in compat.SHIMS}


def applied(name: str) -> bool:
    return SHIMS[name] in compat.applied


def in_fresh_python(code: str, python: str = sys.executable) -> str:
    """What a new interpreter prints on its last line."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    ran = subprocess.run(
        [python, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, env=environment
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.splitlines()[-1]


IMPORTS = """
import json
import s3prl_vqpool, s3prl.hub, s3prl.run_downstream
from s3prl_vqpool.runner import compat
import torch, s3prl.downstream.speech_commands.expert
from s3prl.downstream import runner, speech_commands
from s3prl.upstream.byol_s.byol_a import common
print(json.dumps({
    "torch": str(torch.__version__),
    "applied": [shim.name for shim in compat.applied],
    "own": {
        "torchaudio.load": runner.torchaudio.load.__module__,
        "torchaudio.sox_effects": speech_commands.dataset.apply_effects_file.__module__,
        "torchaudio.set_audio_backend": common.torchaudio.set_audio_backend.__module__,
        "huggingface_hub.HfFolder, Repository": runner.HfFolder.__module__,
        "catalyst.data.sampler": speech_commands.expert.DistributedSamplerWrapper.__module__,
        "torch.load allowlist": s3prl.run_downstream.torch.load.__module__,
    },
    "torch.load": torch.load.__module__,
}))
"""


def test_s3prl_imports_and_each_shim_that_was_applied_says_why() -> None:
    found = json.loads(in_fresh_python(IMPORTS))
    assert set(found["applied"]) <= set(SHIMS)
    for name in found["applied"]:
        shim = SHIMS[name]
        assert re.search(r"^(torch|torchaudio|huggingface_hub|catalyst|setuptools)\b", shim.since), shim
        assert shim.reason
    for name, module in found["own"].items():
        ours = module.startswith("s3prl_vqpool.")
        assert ours == (name in found["applied"]), (name, module)
    assert found["torch.load"] == "torch.serialization"


def test_stack_on_which_s3prl_works_is_left_alone() -> None:
    python = os.environ.get("VQPOOL_LEGACY_PYTHON") or (None if compat.applied else sys.executable)
    if not python:
        pytest.skip("this is not the older stack (torch 2.5), and VQPOOL_LEGACY_PYTHON names none")
    import_alone = "import s3prl.hub, s3prl.run_downstream; print('works')"
    assert in_fresh_python(import_alone, python) == "works"
    found = json.loads(in_fresh_python(IMPORTS, python))
    assert found["applied"] == []
    assert not [module for module in found["own"].values() if module.startswith("s3prl_vqpool")]


def test_applying_again_changes_nothing() -> None:
    before, seen = list(compat.applied), {name: dict(vars(module)) for name, module in compat.seen.items()}
    assert compat.apply() == before
    assert {name: dict(vars(module)) for name, module in compat.seen.items()} == seen


# ------------------------------------------------------------------------------------------ weights_only
def sources() -> Iterator[Path]:
    for folder in ("s3prl_vqpool", "upstream_expert", "downstream", "configs", "recipes"):
        yield from (ROOT / folder).rglob("*.py")
    yield from ROOT.glob("*.py")


def test_nothing_in_the_source_turns_weights_only_off() -> None:
    files = list(sources())
    assert ROOT / "s3prl_vqpool" / "runner" / "compat.py" in files
    for path in files:
        text = path.read_text()
        assert not re.search(r"weights_only\s*[=:]\s*(False|None|0)|FORCE_NO_WEIGHTS_ONLY", text), path
        assert not re.search(r"\b(pickle|dill|joblib|cloudpickle)\.loads?\(", text), path
        for call in re.findall(r"torch\.load\((?:[^()]|\([^()]*\))*\)", text):
            assert "weights_only=True" in call, (path, call)


def test_torch_load_still_refuses_code(tmp_path: Path) -> None:
    class RunsCommand:
        def __reduce__(self) -> tuple:
            return os.system, (f"touch {tmp_path / 'canary'}",)

    torch.save({"Args": RunsCommand()}, tmp_path / "evil.ckpt")
    options = {} if applied("torch.load allowlist") else {"weights_only": True}  # the default since torch 2.6
    with pytest.raises(Exception, match="system"):
        torch.load(tmp_path / "evil.ckpt", **options)
    assert not (tmp_path / "canary").exists()


# ----------------------------------------------------------------------------------------- torchaudio.load
@pytest.fixture
def stereo(tmp_path: Path) -> Path:
    """Two channels of 16-bit noise at 22.05 kHz."""
    samples = np.random.default_rng(0).integers(-10000, 10000, (5000, 2), dtype=np.int16)
    soundfile.write(tmp_path / "stereo.wav", samples, 22050)
    return tmp_path / "stereo.wav"


@pytest.mark.parametrize("channels_first", [True, False])
@pytest.mark.parametrize(
    ("offset", "frames"), [(0, -1), (0, 1200), (300, -1), (300, 1200), (4990, 1200), (0, 9000)]
)
def test_load_gives_the_samples_of_the_file(
    stereo: Path, offset: int, frames: int, channels_first: bool
) -> None:
    found, rate = sox.load(str(stereo), offset, frames, channels_first=channels_first)
    raw, _ = soundfile.read(stereo, dtype="int16")
    stop = None if frames < 0 else offset + frames
    expected = torch.from_numpy(raw[offset:stop].astype(np.float32) / 2**15)
    assert rate == 22050
    assert found.dtype == torch.float32
    assert found.is_contiguous()
    assert torch.equal(found, expected.T if channels_first else expected)
    if not applied("torchaudio.load"):  # torchaudio's own is there: the same call
        theirs, rate = torchaudio.load(str(stereo), offset, frames, channels_first=channels_first)
        assert rate == 22050
        assert torch.equal(found, theirs)


def test_s3prl_reads_with_soundfile_where_torchaudio_needs_torchcodec(stereo: Path) -> None:
    if not applied("torchaudio.load"):
        pytest.skip(f"torchaudio {torchaudio.__version__} loads by itself, so nothing is replaced")
    assert torchaudio.load is not sox.load
    found, rate = runner.torchaudio.load(stereo)
    assert found.shape == (2, 5000)
    assert rate == 22050


# --------------------------------------------------------------------------------------------- sox effects
def sine(rate: int, seconds: float = 0.5, hertz: float = 440.0) -> torch.Tensor:
    return 0.5 * torch.sin(2 * torch.pi * hertz * torch.arange(int(rate * seconds)) / rate)[None]


def real_sox_effects() -> types.ModuleType | None:
    """torchaudio's own, where this stack has them and libsox loads."""
    if applied("torchaudio.sox_effects"):
        return None
    module = importlib.import_module("torchaudio.sox_effects")
    try:
        module.apply_effects_tensor(sine(8000), 8000, [["gain", "-3.0"]])
    except (RuntimeError, ImportError, OSError):
        return None
    return module


def assert_as_sox(
    found: torch.Tensor, rate: int, tensor: torch.Tensor, from_rate: int, effects: list
) -> None:
    real = real_sox_effects()
    if real is not None:
        theirs, their_rate = real.apply_effects_tensor(tensor, from_rate, effects)
        assert rate == their_rate
        torch.testing.assert_close(found, theirs, atol=3e-6, rtol=0)


def test_gain_is_in_decibels() -> None:
    tensor = sine(16000)
    found, rate = sox.apply_effects_tensor(tensor, 16000, [["gain", "-3.0"]])
    torch.testing.assert_close(found, tensor * 0.7079457843841379, atol=1e-7, rtol=0)
    assert rate == 16000
    assert_as_sox(found, rate, tensor, 16000, [["gain", "-3.0"]])


def test_gain_clips_at_full_scale_as_sox_does() -> None:
    tensor = sine(16000)
    found, rate = sox.apply_effects_tensor(tensor, 16000, [["gain", "12"]])
    torch.testing.assert_close(found, (tensor * 10 ** (12 / 20)).clip(-1, 1), atol=1e-6, rtol=0)
    assert_as_sox(found, rate, tensor, 16000, [["gain", "12"]])


def test_channels_are_averaged() -> None:
    tensor = torch.stack([sine(16000)[0], -0.25 * sine(16000, hertz=900)[0]])
    found, rate = sox.apply_effects_tensor(tensor, 16000, [["channels", "1"]])
    torch.testing.assert_close(found, ((tensor[0] + tensor[1]) / 2)[None], atol=1e-7, rtol=0)
    assert_as_sox(found, rate, tensor, 16000, [["channels", "1"]])


@pytest.mark.parametrize("from_rate", [8000, 48000])
def test_rate_resamples_a_sine_to_the_sine(from_rate: int) -> None:
    found, rate = sox.apply_effects_tensor(sine(from_rate), from_rate, [["rate", "16000"]])
    expected = sine(16000)
    assert rate == 16000
    assert found.shape == expected.shape
    inside = slice(500, -500)  # the ends ring
    torch.testing.assert_close(found[:, inside], expected[:, inside], atol=1e-4, rtol=0)
    assert_as_sox(found, rate, sine(from_rate), from_rate, [["rate", "16000"]])


S3PRL_KS = [
    ["channels", "1"],
    ["rate", "16000"],
    ["gain", "-3.0"],
]  # s3prl/downstream/speech_commands/dataset.py


def test_effects_are_applied_to_files_in_order(stereo: Path) -> None:
    found, rate = sox.apply_effects_file(str(stereo), S3PRL_KS)
    raw, _ = soundfile.read(stereo, dtype="float32")
    import soxr

    expected = soxr.resample(raw.mean(axis=1), 22050, 16000, quality="HQ").clip(-1, 1) * 10 ** (-3 / 20)
    assert rate == 16000
    torch.testing.assert_close(found[0], torch.from_numpy(expected).float(), atol=1e-6, rtol=0)
    transposed, _ = sox.apply_effects_file(str(stereo), S3PRL_KS, channels_first=False)
    assert torch.equal(transposed, found.T)
    real = real_sox_effects()
    if real is not None:
        theirs, _ = real.apply_effects_file(str(stereo), S3PRL_KS)
        # White noise shows all that the two filters differ in, at their edge near 8 kHz: -70 dB, more where it starts.
        torch.testing.assert_close(found[:, 20:-20], theirs[:, 20:-20], atol=3e-4, rtol=0)


def test_effects_take_channels_last_too() -> None:
    tensor = torch.stack([sine(8000)[0], sine(8000, hertz=900)[0]])
    expected, _ = sox.apply_effects_tensor(tensor, 8000, S3PRL_KS)
    found, rate = sox.apply_effects_tensor(tensor.T, 8000, S3PRL_KS, channels_first=False)
    assert rate == 16000
    assert torch.equal(found, expected.T)


@pytest.mark.parametrize(
    "effect",
    [
        ["reverb", "50"],
        ["channels", "2"],
        ["gain", "-n"],
        ["gain", "-n", "-3"],
        ["rate", "-h", "16000"],
        ["norm"],
    ],
)
def test_other_effects_are_refused_by_name(effect: list[str]) -> None:
    with pytest.raises(InputError) as refusal:
        sox.apply_effects_tensor(sine(16000), 16000, [effect])
    assert str(refusal.value) == f"sox effect {' '.join(effect)!r} needs torchaudio < 2.9 and libsox."


# ----------------------------------------------------------------------- huggingface_hub, catalyst, runner
def test_hugging_face_stand_ins_say_what_to_do() -> None:
    for use in (
        compat.Gone,
        compat.Gone.get_token,
        lambda: compat.Gone.save_token("secret"),
    ):
        with pytest.raises(
            InputError, match=r"need huggingface_hub < 1\.0: upload the experiment folder"
        ) as refusal:
            use()
        assert len(str(refusal.value).splitlines()) == 1
        assert "secret" not in str(refusal.value)


def test_hugging_face_names_that_are_there_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    partial = types.ModuleType("huggingface_hub")
    partial.HfFolder = theirs = type("HfFolder", (), {})
    monkeypatch.setitem(sys.modules, "huggingface_hub", partial)
    monkeypatch.setattr(compat, "seen", {})
    shim = SHIMS["huggingface_hub.HfFolder, Repository"]
    assert shim.needed()
    shim.apply()
    seen = compat.seen["huggingface_hub"]
    assert seen.HfFolder is theirs
    assert issubclass(seen.Repository, compat.Gone)
    assert not hasattr(partial, "Repository")


def test_catalyst_stand_in_is_what_speech_commands_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compat, "seen", {})
    SHIMS["catalyst.data.sampler"].apply()
    scope = {"__builtins__": {"__import__": compat._import}}
    exec(
        "from catalyst.data.sampler import DistributedSamplerWrapper as Wrapper\nimport catalyst.data", scope
    )
    wrapper = scope["Wrapper"]
    assert wrapper is scope["catalyst"].data.sampler.DistributedSamplerWrapper is DistributedSamplerWrapper
    assert list(wrapper(SequentialSampler(range(5)))) == [0, 1, 2, 3, 4]
    assert len(wrapper(SequentialSampler(range(5)))) == 5


def test_module_that_ran_before_the_shims_gets_the_stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = types.ModuleType("theirs")
    theirs.load, theirs.info = (lambda: "theirs"), (lambda: "kept")
    monkeypatch.setitem(sys.modules, "theirs", theirs)
    monkeypatch.setattr(compat, "seen", {})
    compat.show("theirs", load=lambda: "ours")
    early = types.ModuleType("s3prl.early")
    early.module, early.load, early.info = theirs, theirs.load, theirs.info
    compat.mend(early)
    assert (early.module.load(), early.load()) == ("ours", "ours")
    assert (early.module.info(), early.info()) == ("kept", "kept")
    assert theirs.load() == "theirs"


def test_checkpoint_that_is_being_replaced_survives_a_failed_save(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "torch", torch)
    compat.mend_runner(runner)
    assert runner.torch is not torch
    path = tmp_path / "states-5.ckpt"
    runner.torch.save({"Step": 5}, str(path))
    assert torch.load(path, weights_only=True) == {"Step": 5}
    assert [file.name for file in tmp_path.iterdir()] == [path.name]

    class DiesHalfway:
        def __reduce__(self) -> tuple:
            raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space left"):
        runner.torch.save({"Step": 6, "Downstream": torch.zeros(100_000), "Args": DiesHalfway()}, str(path))
    assert torch.load(path, weights_only=True) == {"Step": 5}
    assert [file.name for file in tmp_path.glob("*.ckpt")] == [path.name]
    runner.torch.save({"Step": 6}, str(path))
    assert torch.load(path, weights_only=True) == {"Step": 6}
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_checkpoint_survives_a_process_killed_while_saving(tmp_path: Path) -> None:
    path = tmp_path / "states-5.ckpt"
    code = f"""
import os, signal, torch
import s3prl_vqpool
from s3prl.downstream import runner
runner.torch.save({{"Step": 5}}, {str(path)!r})
class Kills:
    def __reduce__(self):
        os.kill(os.getpid(), signal.SIGKILL)
runner.torch.save({{"Step": 6, "Downstream": torch.zeros(100_000), "Args": Kills()}}, {str(path)!r})
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, timeout=120, env=environment
    )
    assert ran.returncode == -9, ran.stderr
    assert torch.load(path, weights_only=True) == {"Step": 5}


def test_runner_sees_all_else_of_torch_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "torch", torch)
    compat.mend_runner(runner)
    for name in ("FloatTensor", "no_grad", "nn", "distributed", "LongTensor"):
        assert getattr(runner.torch, name) is getattr(torch, name)
    for name in ("is_available", "empty_cache", "manual_seed_all"):
        assert getattr(runner.torch.cuda, name) is getattr(torch.cuda, name)
    assert torch.save.__module__ == "torch.serialization"  # torch itself is not touched


def test_runner_evaluates_on_the_cpu_beside_a_cuda_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "torch", torch)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    compat.mend_runner(runner)
    one = object.__new__(runner.Runner)
    one.args, one.config, one.all_entries = types.SimpleNamespace(seed=0, device="cpu"), {"runner": {}}, []
    model = types.SimpleNamespace(get_dataloader=lambda split: [], log_records=lambda split, **_: ["best"])
    one.downstream = types.SimpleNamespace(model=model)
    assert one.evaluate("dev", logger=object(), global_step=1) == ["best"]


# ------------------------------------------------------------------------- torchaudio.info, sed_eval, pandas
@pytest.mark.parametrize(
    ("suffix", "subtype", "encoding", "bits"),
    [
        ("wav", "PCM_16", "PCM_S", 16),
        ("wav", "PCM_U8", "PCM_U", 8),
        ("wav", "FLOAT", "PCM_F", 32),
        ("flac", "PCM_24", "FLAC", 24),
    ],
)
def test_info_is_what_was_written(
    tmp_path: Path, suffix: str, subtype: str, encoding: str, bits: int
) -> None:
    path = tmp_path / f"two.{suffix}"
    soundfile.write(path, np.zeros((1234, 2)), 22050, subtype=subtype)
    found = sox.info(path)
    assert (found.sample_rate, found.num_frames, found.num_channels) == (22050, 1234, 2)
    assert (found.encoding, found.bits_per_sample) == (encoding, bits)


def test_sed_eval_stand_in_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compat, "seen", {})
    SHIMS["sed_eval, dcase_util"].apply()
    scope = {"__builtins__": {"__import__": compat._import}}
    exec("import sed_eval\nfrom dcase_util.containers import MetaDataContainer", scope)
    for use in (scope["sed_eval"].sound_event.EventBasedMetrics, scope["MetaDataContainer"]):
        with pytest.raises(InputError, match="pip install sed_eval"):
            use()


def test_corpus_tables_are_read_without_iteritems() -> None:
    import pandas

    class Corpus:
        pass

    table = pandas.DataFrame({"path": ["b.wav", "a.wav"], "label": ["yes", "no"]})
    module = types.SimpleNamespace(pd=types.SimpleNamespace(Series=object), Corpus=Corpus)
    compat.mend_corpus(module)
    read = Corpus.dataframe_to_datapoints
    assert read(table, lambda row: row["path"]) == {
        "b.wav": {"path": "b.wav", "label": "yes"},
        "a.wav": {"path": "a.wav", "label": "no"},
    }
    with pytest.raises(InputError, match="2 utterances has only 1"):
        read(table, lambda row: "same")
