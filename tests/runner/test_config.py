"""The numbers of a config: read alike, whoever trains."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from s3prl_vqpool import checkpoints, cli
from s3prl_vqpool.errors import InputError
from s3prl_vqpool.runner.config import positive, read, runner_section, with_numbers
from s3prl_vqpool.runner.plugin import default_config

TEXT = """
optimizer: {lr: 1e-4, betas: [0.9, 9.99e-1], name: Adam}
runner: {total_steps: 1e2, gradient_clipping: 1e0}
downstream_expert:
  datarc: {file_path: 1e5, speakers: [1e6]}
  modelrc: {pooling: VQ-SIF, pooling_options: {a: -1E+3, b: 1.e-2, word: e-4, version: 1e-4.2}}
"""


def test_numbers_that_yaml_takes_for_text_are_numbers_but_for_names_of_the_corpus() -> None:
    given = yaml.safe_load(TEXT)
    assert given["optimizer"]["lr"] == "1e-4"
    assert with_numbers(given) == {
        "optimizer": {"lr": 1e-4, "betas": [0.9, 0.999], "name": "Adam"},
        "runner": {"total_steps": 100.0, "gradient_clipping": 1.0},
        "downstream_expert": {
            "datarc": {"file_path": "1e5", "speakers": ["1e6"]},
            "modelrc": {
                "pooling": "VQ-SIF",
                "pooling_options": {"a": -1000.0, "b": 0.01, "word": "e-4", "version": "1e-4.2"},
            },
        },
    }


def test_read_gives_numbers(tmp_path: Path) -> None:
    content = yaml.safe_load(default_config("vqpool_ks").read_text())
    content["optimizer"]["lr"] = "1e-4"
    (tmp_path / "config.yaml").write_text(yaml.dump(content))
    override = "config.runner.gradient_clipping='1e1'"
    config = read("vqpool_ks", str(tmp_path / "config.yaml"), override)
    assert (config["optimizer"]["lr"], config["runner"]["gradient_clipping"]) == (1e-4, 10.0)


def test_numbers_of_steps_become_integers() -> None:
    config = yaml.safe_load(default_config("vqpool_ks").read_text())
    config["runner"]["total_steps"] = 1e2
    section = runner_section(config)
    assert config["runner"]["total_steps"] == section["total_steps"] == 100
    assert isinstance(config["runner"]["total_steps"], int)
    assert isinstance(section["total_steps"], int)


@pytest.mark.parametrize("value", [1e-30, 3, 1.5, 1e300])
def test_positive_numbers_stay_as_they_are(value: float) -> None:
    assert positive("x", value) is value
    assert positive("x", math.inf, infinite=True) == math.inf


@pytest.mark.parametrize("value", [0, -1, 0.0, math.nan, math.inf, -math.inf, True, "1", "1e-4", None, [1]])
def test_no_others_are_positive(value: Any) -> None:
    with pytest.raises(InputError, match=r"^config.x: expected a number above 0, but got .*\.$"):
        positive("config.x", value)


def test_the_runner_and_the_batched_heads_take_such_numbers(
    run: Any, synthetic: dict, extracted: Any, tmp_path: Path
) -> None:
    content = yaml.safe_load(default_config("vqpool_ic").read_text())
    content["downstream_expert"]["datarc"].update(num_workers=0, **synthetic["ic"])
    path = tmp_path / "config.yaml"
    text = yaml.dump(content).replace("lr: 0.0001", "lr: 1e-4")
    steps = {"total_steps": "2e0", "eval_step": "2e0", "save_step": "2e0", "gradient_clipping": "1e0"}
    for key, value in steps.items():
        text = re.sub(f"{key}: .*", f"{key}: {value}", text)
    path.write_text(text)
    assert all(isinstance(yaml.safe_load(text)["runner"][key], str) for key in steps)
    run("-m", "train", "-u", "mfcc_vq", "-d", "vqpool_ic", "-c", path, "-p", tmp_path / "runner").ok()
    _, store = extracted("mfcc", "ic")
    argv = ["train", "-d", "vqpool_ic", "--store", str(store), "-c", str(path), "-p", str(tmp_path)]
    assert cli.main(argv) == 0
    for folder in (tmp_path / "runner", tmp_path / "VQ-LP" / "lr=1e-4"):
        state = checkpoints.load(folder / "states-2.ckpt")
        assert state["Optimizer"]["param_groups"][0]["lr"] == 1e-4
        assert state["Step"] == 2


DATARC = "config.downstream_expert.datarc"
STORE = {
    "root": "/data/IEMOCAP",
    "meta_data": None,
    "test_fold": "fold3",
    "valid_ratio": 0.3,
    "num_workers": 9,
}


def test_a_stores_corpus_is_what_counts_and_its_reading_keys_are_not() -> None:
    datarc = read("vqpool_er", None, None, STORE)["downstream_expert"]["datarc"]
    default = yaml.safe_load(default_config("vqpool_er").read_text())["downstream_expert"]["datarc"]
    assert datarc == {**default, **STORE, "num_workers": default["num_workers"]}


def test_a_key_of_any_name_comes_with_the_store() -> None:
    """Keys were chosen by how they end, and a task's own was lost."""
    datarc = read("vqpool_er", None, None, {**STORE, "subset": "esc10"})["downstream_expert"]["datarc"]
    assert datarc["subset"] == "esc10"


@pytest.mark.parametrize("option", ["root=elsewhere", "valid_ratio=0.2", "meta_data=/data/lists"])
def test_an_override_that_names_another_corpus_is_refused(option: str) -> None:
    key = option.split("=")[0]
    with pytest.raises(
        InputError, match=rf"^{DATARC}\.{key} .*: the store was extracted with .*; leave it out"
    ):
        read("vqpool_er", None, f"{DATARC}.{option}", STORE)


def test_an_override_of_the_fold_or_of_the_same_path_is_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    option = f"{DATARC}.test_fold=fold2,,{DATARC}.root=data/IEMOCAP"
    datarc = read("vqpool_er", None, option, STORE)["downstream_expert"]["datarc"]
    assert (datarc["test_fold"], datarc["valid_ratio"]) == ("fold2", 0.3)


def test_a_config_file_may_leave_the_corpus_out_but_not_name_another(tmp_path: Path) -> None:
    config = yaml.safe_load(default_config("vqpool_er").read_text())
    own = config["downstream_expert"]["datarc"]
    config["downstream_expert"]["datarc"] = {"num_workers": 0, "test_fold": "fold5"}
    path = tmp_path / "config.yaml"
    path.write_text(yaml.dump(config))
    found = read("vqpool_er", str(path), None, STORE)["downstream_expert"]["datarc"]
    assert found == {**STORE, "num_workers": 0, "test_fold": "fold5"}
    own["valid_ratio"] = STORE["valid_ratio"]
    config["downstream_expert"]["datarc"] = own  # its places are null
    path.write_text(yaml.dump(config))
    assert read("vqpool_er", str(path), None, STORE)["downstream_expert"]["datarc"]["root"] == STORE["root"]
    own["root"] = "/path/to/IEMOCAP"
    path.write_text(yaml.dump(config))
    with pytest.raises(
        InputError, match=rf"^{DATARC}\.root '/path/to/IEMOCAP': the store was extracted with "
    ):
        read("vqpool_er", str(path), None, STORE)
