"""Checkpoints as fairseq wrote them: read without fairseq, equal to what fairseq computes; conversion; refusals."""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import s3prl_vqpool  # noqa: F401 (S3PRL's own modules import after it on every stack)

# isort: split
import golden
import pytest
import torch
from fairseq_answers import MODELS, assert_equals_fairseq, convert
from s3prl import hub
from tiny import LARGE, converted_checkpoint, waves

from s3prl_vqpool import cli
from s3prl_vqpool.checkpoints import fairseq, torch_files
from s3prl_vqpool.checkpoints.unpickler import Malformed, plain
from s3prl_vqpool.errors import DamagedCheckpoint, InputError

WAYS: dict[str, Callable[[Path, Path], Path]] = {
    "as it is": lambda path, folder: path,
    "converted to S3PRL's": lambda path, folder: convert(path, folder / "converted.pt"),
    "converted to safetensors": lambda path, folder: convert(path, folder / "converted.safetensors"),
    "converted twice": lambda path, folder: convert(convert(path, folder / "a.safetensors"), folder / "b.pt"),
}


@golden.needed
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("model", MODELS)
def test_hidden_states_and_codes_equal_fairseqs(tmp_path: Path, model: str, way: str) -> None:
    path = WAYS[way](golden.CHECKPOINTS / f"{MODELS[model]}.pt", tmp_path)
    upstream = hub.wav2vec2_vq_custom(ckpt=str(path)).eval()
    assert_equals_fairseq(upstream, MODELS[model], golden.expected("fairseq"))
    assert upstream.codebook_sizes == (40, 40)


@golden.needed
def test_conversion_is_what_s3prls_own_upstream_takes(tmp_path: Path) -> None:
    path = convert(golden.CHECKPOINTS / "fairseq_xlsr.pt", tmp_path / "converted.pt")
    expected, found = golden.expected("fairseq"), hub.wav2vec2_local(ckpt=str(path)).eval()
    with torch.no_grad():
        states = found([expected["wav.1"]])["hidden_states"]
    for layer, state in enumerate(states):
        torch.testing.assert_close(state[0], expected[f"fairseq_xlsr.1.hidden.{layer}"], rtol=1e-5, atol=1e-5)


@golden.needed
@pytest.mark.parametrize("name", ["fairseq_xlsr", "fairseq_wav2vec2_base", "fairseq_vq_wav2vec_kmeans"])
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy format"])
def test_reader_gives_what_torch_load_gives(tmp_path: Path, name: str, zipped: bool) -> None:
    source, path = golden.CHECKPOINTS / f"{name}.pt", tmp_path / "again.pt"
    trusted = torch.load(source, weights_only=False)  # needs omegaconf for one of them
    torch.save(trusted, path, _use_new_zipfile_serialization=zipped)
    found = torch_files.read(path)
    assert found["model"].keys() == trusted["model"].keys()
    for key, tensor in trusted["model"].items():
        assert torch.equal(found["model"][key], tensor)
    if trusted["args"] is not None:
        assert plain(found["args"]) == vars(trusted["args"])
    if trusted["cfg"] is not None:
        omegaconf = pytest.importorskip("omegaconf")
        assert plain(found["cfg"]) == omegaconf.OmegaConf.to_container(trusted["cfg"])


def test_omegaconf_and_fairseq_are_never_imported() -> None:
    if not golden.CHECKPOINTS.is_dir():
        pytest.skip(f"no golden files: {golden.CHECKPOINTS} is absent")
    code = (
        "import sys; sys.modules.update(omegaconf=None, fairseq=None)\n"
        "from s3prl_vqpool.checkpoints import fairseq\n"
        f"print(fairseq.load({str(golden.CHECKPOINTS / 'fairseq_xlsr.pt')!r}).model_cfg['latent_temp'])"
    )
    ran = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True)
    assert ran.stdout.strip() == "(2, 0.5, 0.999995)", ran.stderr


# ------------------------------------------------------------------------------------------------ the reader
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy format"])
def test_reader_gives_back_tensors_of_every_kind(tmp_path: Path, zipped: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(6, 5, generator=generator)
    state = {
        "transposed": base.T,
        "a part": base[2:4, 1:],
        "scalar": torch.tensor(3.5),
        "empty": torch.zeros(0, 3),
        "same": base,
        "parameter": torch.nn.Parameter(torch.randn(2, generator=generator)),
        **{
            str(dtype): (torch.randn(7, generator=generator) * 9).to(dtype)
            for dtype in (torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int8, torch.bool)
        },
        "plain": {"a": [1, -2, 2**70, 3.5, None, True, "ä"], "b": (1, ("c",)), 3: {}, "bytes": b"\0"},
    }
    path = tmp_path / "all.pt"
    if not zipped:  # protocol 2 writes bytes as a call of _codecs.encode
        del state["plain"]["bytes"]
    torch.save(state, path, _use_new_zipfile_serialization=zipped, pickle_protocol=2 if not zipped else 3)
    found = torch_files.read(path)
    assert found.pop("plain") == state.pop("plain")
    for name, tensor in state.items():
        assert found[name].dtype == tensor.dtype, name
        assert torch.equal(found[name], tensor), name
    assert found["transposed"].data_ptr() == found["same"].data_ptr()  # views of one storage still are


def test_reading_leaves_the_file_as_it_is_when_tensors_change(tmp_path: Path) -> None:
    path = tmp_path / "one.pt"
    torch.save({"weight": torch.ones(1000)}, path)
    before = path.read_bytes()
    torch_files.read(path)["weight"].zero_()
    assert path.read_bytes() == before


def config(**changes: Any) -> dict[str, Any]:
    return {"model": {"conv_feature_layers": "[(8, 10, 5)]", **changes}, "task": {"normalize": True}}


@pytest.mark.parametrize(
    ("text", "layers"),
    [
        ("[(32,10,5)]+[(32,3,2)]*2", [(32, 10, 5), (32, 3, 2), (32, 3, 2)]),
        ("[(1,2,3),[4,5,6]]", [(1, 2, 3), (4, 5, 6)]),
        ("[(512, 10, 5)] + [(512, 3, 2)] * 4 + [(512,2,2)] + [(512,2,2)]", eval("[(512, 10, 5)] + [(512, 3, 2)] * 4 + [(512,2,2)] + [(512,2,2)]")),  # noqa: E501, S307
    ],
)  # fmt: skip
def test_layers_are_what_python_makes_of_them(text: str, layers: list) -> None:
    assert fairseq.layers(Path("x.pt"), "conv_feature_layers", text) == layers


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('touch CANARY')",
        "[(8, 10, 5)] + __import__('os').system('touch CANARY')",
        "[(x, 1, 1) for x in open('CANARY', 'w').name]",
        "[(8, 10, 5)] * 10**9",
        "[(8, 10, 5)] * 65",
        "[(8, 10, 5)] * 33 * 2",
        "[(8, 10, 5)] * 64 + [(8, 10, 5)]",
        "[] * 10**9",
        "[(8, 10, 5)] * -1",
        "[(8, 10, 5)] * True",
        "[(8, 0, 5)]",
        "[(8, -10, 5)]",
        "[(8, 10, 5.0)]",
        "[(8, 10, True)]",
        "[(1048576, 10, 5)]",
        "[(8, 10)]",
        "[]",
        "(((((",
        "-" * 1900 + "1",
        "[" * 150,
        None,
    ],
)
@pytest.mark.parametrize("kind", ["fairseq", "converted"])
def test_layers_that_are_code_are_refused_unrun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, kind: str
) -> None:
    monkeypatch.chdir(tmp_path)  # S3PRL evaluates this field with eval()
    path, cfg = tmp_path / "evil.pt", config(conv_feature_layers=text)
    weights = {"quantizer.vars": torch.zeros(1)}
    if kind == "fairseq":
        torch.save({"model": weights, "cfg": cfg}, path)
    else:
        torch.save({"model_weight": weights, "model_cfg": cfg["model"], "task_cfg": cfg["task"]}, path)
    with pytest.raises(InputError, match="refused, conv_feature_layers is") as refusal:
        hub.wav2vec2_vq_custom(ckpt=str(path))
    assert len(str(refusal.value).splitlines()) == 1
    assert not (tmp_path / "CANARY").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"encoder_embed_dim": 2_000_000},
        {"encoder_layers": 10**8},
        {"latent_vars": 10**9},
        {"encoder_attention_heads": 0},
        {"encoder_embed_dim": "48"},
        {"activation_fn": "no such function"},
        {"encoder_layers": 4},
        {"latent_dim": 17},
    ],
    ids=str,
)
def test_config_that_does_not_fit_the_weights_is_one_line(tmp_path: Path, changes: dict[str, Any]) -> None:
    path = converted_checkpoint(tmp_path / "tiny.pt", LARGE)
    state = torch.load(path, weights_only=True)
    state["model_cfg"].update(changes)
    torch.save(state, path)
    with pytest.raises(InputError, match="config and its weights make no Wav2Vec2Model") as refusal:
        hub.wav2vec2_vq_custom(ckpt=str(path))
    assert len(str(refusal.value).splitlines()) == 1


def test_building_from_memory_draws_the_random_numbers_that_s3prl_draws(tmp_path: Path) -> None:
    path, states = str(converted_checkpoint(tmp_path / "tiny.pt", LARGE)), []
    for make in (hub.wav2vec2_local, hub.wav2vec2_vq_local):
        torch.manual_seed(0)
        make(ckpt=path)
        states.append(torch.get_rng_state())
    assert torch.equal(*states)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ([1, 2], "it holds no dict"),
        ({"model": {"a": torch.zeros(1)}}, "it has no 'task_cfg', 'model_cfg', 'model_weight'"),
        ({"model": {"a": torch.zeros(1)}, "cfg": {"model": {}}}, "it has no 'task_cfg'"),
        ({"model": {"a": 3}, "args": argparse.Namespace(seed=0)}, "weights are not a dict of tensors"),
        ({"model": [1], "args": argparse.Namespace(seed=0)}, "weights are not a dict of tensors"),
        ({"model": {"a": torch.zeros(1)}, "cfg": {"model": 3, "task": {}}}, "its config is not a dict"),
        ({"model": {"a": torch.zeros(1)}, "args": argparse.Namespace(latent_temp="(1, 2)")}, "expected three numbers"),
        ({"model": {"w2v_encoder.w2v_model.a": torch.zeros(1)}, "args": argparse.Namespace()}, "has no quantizer"),
    ],
)  # fmt: skip
def test_other_content_is_one_line(tmp_path: Path, content: Any, problem: str) -> None:
    path = tmp_path / "other.pt"
    torch.save(content, path)
    with pytest.raises(InputError, match=problem) as refusal:
        hub.wav2vec2_vq_custom(ckpt=str(path))
    assert str(refusal.value).startswith(f"{path}: ")
    assert len(str(refusal.value).splitlines()) == 1


# ------------------------------------------------------------------------------------------------- conversion
@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_conversion_keeps_configs_and_weights(tmp_path: Path, suffix: str) -> None:
    path = converted_checkpoint(tmp_path / "tiny.pt", LARGE)
    out = convert(path, tmp_path / "out" / f"again.{suffix}" if (tmp_path / "out").mkdir() is None else path)
    before, after = fairseq.load(path), fairseq.load(out)
    assert (after.task_cfg, after.model_cfg) == (before.task_cfg, before.model_cfg)
    assert before.model_weight.keys() == after.model_weight.keys()
    assert all(torch.equal(after.model_weight[name], tensor) for name, tensor in before.model_weight.items())
    assert {file.name for file in out.parent.iterdir()} == {f"again.{suffix}"} | (
        {"again.json"} if suffix == "safetensors" else set()
    )


def test_conversion_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, out = converted_checkpoint(tmp_path / "tiny.pt", LARGE), tmp_path / "out.pt"
    out.write_bytes(b"the old one")

    def fail(state: dict, file: Any) -> None:
        file.write(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(torch, "save", fail)
    assert cli.main(["convert", str(path), "--output", str(out), "--overwrite"]) == 1
    assert out.read_bytes() == b"the old one"
    assert {file.name for file in tmp_path.iterdir()} == {"tiny.pt", "out.pt"}


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.with_suffix(".json").unlink(),
        lambda path: path.with_suffix(".json").write_text("{"),
        lambda path: path.with_suffix(".json").write_text("[1]"),
        lambda path: path.with_suffix(".json").write_text("[" * 100_000),
        lambda path: path.with_suffix(".json").write_text(
            f'{{"task_cfg": {{}}, "model_cfg": {{"a": {10**30}}}}}'
        ),
        lambda path: path.with_suffix(".json").write_text(json.dumps({"task_cfg": {}, "model_cfg": 3})),
        lambda path: path.write_bytes(path.read_bytes()[:5000]),
        lambda path: path.write_bytes(b""),
        lambda path: path.unlink(),
    ],
)
def test_damaged_safetensors_is_one_line(tmp_path: Path, damage: Callable[[Path], Any]) -> None:
    path = convert(converted_checkpoint(tmp_path / "tiny.pt", LARGE), tmp_path / "out.safetensors")
    damage(path)
    with pytest.raises(InputError) as refusal:
        hub.wav2vec2_vq_custom(ckpt=str(path))
    assert str(refusal.value).startswith(f"{path}: ")
    assert len(str(refusal.value).splitlines()) == 1


def test_convert_refuses_names_that_say_nothing(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = converted_checkpoint(tmp_path / "tiny.pt", LARGE)
    problems = {
        "out.bin": "name it .safetensors",
        "tiny.pt": "is the input",
        "no/out.pt": "in a folder that exists",
    }
    for out, problem in problems.items():
        assert cli.main(["convert", str(path), "--output", str(tmp_path / out)]) == 2
        error = capsys.readouterr().err
        assert problem in error
        assert len(error.splitlines()) == 1
    for out in ("out.pt", "tiny.pt"):
        assert cli.main(["convert", str(tmp_path / "none.pt"), "--output", str(tmp_path / out)]) == 2
        assert "none.pt: no such checkpoint" in capsys.readouterr().err


def test_safetensors_give_the_same_codes_in_batches(tmp_path: Path) -> None:
    path = converted_checkpoint(tmp_path / "tiny.pt", LARGE)
    again = convert(path, tmp_path / "out.safetensors")
    wavs = waves(7600, 16000)
    first, second = (hub.wav2vec2_vq_custom(ckpt=str(name)).eval()(wavs) for name in (path, again))
    assert torch.equal(first["codes"], second["codes"])
    assert torch.equal(first["last_hidden_state"], second["last_hidden_state"])


def test_file_that_wants_fairseqs_classes_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, module = tmp_path / "task.pt", ModuleType("fairseq_configs")
    module.FairseqConfig = type("FairseqConfig", (), {"__module__": "fairseq_configs"})
    monkeypatch.setitem(sys.modules, "fairseq_configs", module)
    torch.save({"model": {"a": torch.zeros(1)}, "cfg": module.FairseqConfig()}, path)
    with pytest.raises(InputError, match=r"asks to import fairseq_configs\.FairseqConfig;") as refusal:
        fairseq.load(path)
    assert not isinstance(refusal.value, DamagedCheckpoint)


@pytest.mark.parametrize(("levels", "fits"), [(50, True), (51, False)])
def test_records_are_converted_to_a_bounded_depth(levels: int, fits: bool) -> None:
    nested: object = 7
    for _ in range(levels):
        nested = [nested]
    if fits:
        assert plain(nested) == nested
    else:
        with pytest.raises(Malformed, match="nested more than 50 deep"):
            plain(nested)


def test_layers_are_bounded_in_number_size_and_text() -> None:
    path, layer = Path("x.pt"), (2**20 - 1, 3, 1)
    assert fairseq.layers(path, "conv_feature_layers", f"[{layer}] * 64") == [layer] * 64
    assert fairseq.layers(path, "conv_feature_layers", f"[{layer}] * 63 + [{layer}]") == [layer] * 64
    assert fairseq.layers(path, "conv_feature_layers", f"[{layer}]".ljust(2000)) == [layer]
    for text in (
        f"[{layer}] * 65",
        f"[{layer}] * 64 + [{layer}]",
        "[]",
        f"[{layer}] * 0",
        f"[{layer}] * -1",
        f"[{layer}] * True",
        f"[{layer}] * 1.0",
        f"64 * [{layer}]",
        f"[{layer}] + 1",
        f"[{layer}]".ljust(2001),
        f"[{(2**20, 3, 1)}]",
        "[(512, 0, 1)]",
        "[(512, 3)]",
        "[(512, 3, 1.0)]",
        "[(512, 3, True)]",
        "[(512, 3, 1, 1)]",
    ):
        with pytest.raises(InputError, match=r"^x\.pt: refused, conv_feature_layers is"):
            fairseq.layers(path, "conv_feature_layers", text)


@pytest.mark.parametrize(
    ("value", "numbers"),
    [("(2, 0.5, 0.999)", (2, 0.5, 0.999)), ([2, 0.5, 1], (2, 0.5, 1)), ("[2.0, 0.5, 1]", (2.0, 0.5, 1))],
)
def test_temperatures_are_three_numbers(value: Any, numbers: tuple) -> None:
    assert fairseq._temperature(Path("x.pt"), "latent_temp", value) == numbers
    for wrong in ("(2, 0.5)", (2, 0.5), "2", 2, "(2, 0.5, 'a')", (2, 0.5, None), "(2, 0.5, 1, 1)", "(", None):
        with pytest.raises(InputError, match=r"^x\.pt: latent_temp is .*; expected three numbers\.$"):
            fairseq._temperature(Path("x.pt"), "latent_temp", wrong)
