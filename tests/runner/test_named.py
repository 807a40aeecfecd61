"""`corpora.yaml`: found, read, refused in one line; what `-c` and `-o` say comes first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from s3prl_vqpool import cli
from s3prl_vqpool.corpora.tasks import by_name, registered
from s3prl_vqpool.errors import InputError
from s3prl_vqpool.runner import named
from s3prl_vqpool.runner.config import default_datarc, read

DATARC = "config.downstream_expert.datarc"
EVERY = pytest.mark.parametrize("task", registered(), ids=lambda task: task.name)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, and no variable."""
    monkeypatch.delenv(named.VARIABLE, raising=False)
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    return tmp_path


def write(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


def datarc(downstream: str, config: str | None, option: str | None, file: Path | None = None) -> dict:
    return read(downstream, config, named.override(downstream, config, option, file))["downstream_expert"][
        "datarc"
    ]


def test_option_comes_before_variable_before_working_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert named.find() is None
    assert named.read() is None
    here = write(folder / "cwd" / "corpora.yaml", {"er": {"root": "here"}})
    assert named.find() == Path(here.name)
    variable = write(folder / "variable.yaml", {"er": {"root": "/variable"}})
    monkeypatch.setenv(named.VARIABLE, str(variable))
    assert named.read().datarc["er"]["root"] == "/variable"
    option = write(folder / "option.yaml", {"er": {"root": "/option"}})
    assert named.read(option).datarc["er"]["root"] == "/option"


@EVERY
def test_full_keys_and_short_ones_are_the_same(task: Any, folder: Path) -> None:
    full = write(folder / "full.yaml", {task.name: {place.key: f"to/{place.key}" for place in task.places}})
    short = write(
        folder / "short.yaml", {task.name: {place.short: f"to/{place.key}" for place in task.places}}
    )
    expected = {place.key: str(folder / "to" / place.key) for place in task.places}
    assert named.read(full).datarc == named.read(short).datarc == {task.name: expected}


def test_paths_are_relative_to_the_file_and_know_home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    file = write(folder / "corpora.yaml", {"ks": {"root": "../sc", "test_root": "~/test"}})
    assert named.read(Path("../corpora.yaml")).datarc["ks"] == {
        "speech_commands_root": str(folder.parent / "sc"),
        "speech_commands_test_root": "/home/me/test",
    }
    assert file.is_file()


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("sc: {root: x}", "FILE: Unknown task 'sc'. "),
        ("ks: {rot: x}", "Unknown key in FILE: ks: 'rot'. Did you mean root"),
        ("er: {root: x, test_fold: fold2}", "Unknown key in FILE: er: 'test_fold'."),
        ("ic: {root: x, train_batch_size: 4}", "Unknown key in FILE: ic: 'train_batch_size'."),
        (
            "ks: {root: x, speech_commands_root: y}",
            "FILE: ks.speech_commands_root: speech_commands_root is named twice",
        ),
        ("sid: {root: x}", "FILE: sid: has no list: add list: PATH."),
        ("ic: {}", "FILE: ic: has no root: add root: PATH."),
        ("ic: {root: 3}", "FILE: ic.root: expected a path, but got 3."),
        ("ic: {root: [a]}", "FILE: ic.root: expected a path, but got ['a']."),
        ("ic: {root: ''}", "FILE: ic.root: expected a path, but got ''."),
        ("ic: /data", "FILE: ic: expected a section such as {root: PATH}, but got '/data'."),
        ("ic:", "FILE: ic: expected a section such as {root: PATH}, but got None."),
        ("- ic", "FILE: expected a section for each task"),
        ("", "FILE: expected a section for each task"),
        ("ic: {root: !!python/name:os.system }", "FILE: not YAML ("),
    ],
)
def test_mistakes_are_one_line_that_names_the_file(text: str, error: str, folder: Path) -> None:
    file = write(folder / "bad.yaml", text)
    with pytest.raises(InputError) as found:
        named.read(file)
    assert str(found.value).startswith(error.replace("FILE", str(file)))
    assert "\n" not in str(found.value)


def test_missing_file_and_missing_folder_are_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"^--corpora no\.yaml: no such file"):
        named.find(Path("no.yaml"))
    monkeypatch.setenv(named.VARIABLE, "none.yaml")
    with pytest.raises(InputError, match=r"^VQPOOL_CORPORA none\.yaml: no such file"):
        named.find()
    file = write(folder / "c.yaml", {"ic": {"root": "gone"}})
    with pytest.raises(InputError, match=f"^{file}: ic.root: {folder}/gone is not there"):
        named.override("vqpool_ic", None, None, file)


def test_option_wins_and_another_root_sets_the_section_aside(folder: Path) -> None:
    root = folder / "sc"
    root.mkdir()
    write(Path("corpora.yaml"), {"ks": {"root": str(root), "classes": "all35"}})
    section = datarc("vqpool_ks", None, None)
    assert section == {**default_datarc("vqpool_ks"), "speech_commands_root": str(root), "classes": "all35"}
    assert datarc("vqpool_ks", None, f"{DATARC}.classes=v1")["classes"] == "v1"
    other = datarc("vqpool_ks", None, f"{DATARC}.speech_commands_root=/other")
    assert other == {**default_datarc("vqpool_ks"), "speech_commands_root": "/other"}
    assert named.override("speech_commands", None, "config.x.y=1") == "config.x.y=1"


def test_config_comes_before_the_file_unless_it_names_no_corpus(folder: Path) -> None:
    write(Path("corpora.yaml"), {"ic": {"root": str(folder), "labels": "intents31"}})
    config = yaml.safe_load((Path(named.plugin.default_config("vqpool_ic"))).read_text())
    mine = write(folder / "mine.yaml", config)
    section = datarc("vqpool_ic", str(mine), None)
    assert (section["file_path"], section["labels"]) == (str(folder), "slots")
    config["downstream_expert"]["datarc"]["file_path"] = "/other"
    assert datarc("vqpool_ic", str(write(mine, config)), None)["file_path"] == "/other"


def test_corpora_that_would_not_be_used_is_refused(folder: Path) -> None:
    file = write(folder / "c.yaml", {"ic": {"root": str(folder)}})
    with pytest.raises(InputError, match=f"^--corpora {file}: would not be used: -c or -o names file_path"):
        named.override("vqpool_ic", None, f"{DATARC}.file_path=/x", file)
    with pytest.raises(InputError, match=f"^--corpora {file}: has no section er"):
        named.override("vqpool_er", None, None, file)


@pytest.mark.parametrize(
    "odd", ["a=b", "a,,b", "a,,,b", "it's", 'a"b', "\\=", "__import__('os').abort()", " x "]
)
def test_odd_paths_arrive_as_they_are_in_ours_and_in_s3prls_reader(odd: str, folder: Path) -> None:
    from s3prl.utility.helper import override

    (folder / odd).mkdir()
    write(Path("corpora.yaml"), {"ic": {"root": str(folder / odd)}})
    assert datarc("vqpool_ic", None, "config.runner.total_steps=7")["file_path"] == str(folder / odd)
    config: dict = {"downstream_expert": {"datarc": {}}}
    override(named.override("vqpool_ic", None, None), None, config)
    assert config["downstream_expert"]["datarc"]["file_path"] == str(folder / odd)


def test_runner_trains_on_it_and_the_experiment_keeps_it(
    synthetic: dict, run: Any, options: Any, tmp_path: Path
) -> None:
    cwd = tmp_path / "cwd"
    write(cwd / "corpora.yaml", {"ic": synthetic["ic"]})
    small = options({"num_workers": 0}, total_steps=2, eval_step=2, log_step=2, save_step=2)
    arguments = ["-m", "train", "-n", "x", "-u", "mfcc_vq", "-d", "vqpool_ic"]
    run(*arguments, *small, cwd=cwd).ok()
    (cwd / "corpora.yaml").unlink()
    best = cwd / "result/downstream/x/dev-best.ckpt"
    kept = torch.load(best, weights_only=False)["Config"]["downstream_expert"]["datarc"]
    assert kept["file_path"] == synthetic["ic"]["file_path"]
    assert kept["num_workers"] == 0
    assert "test acc" in run("-m", "evaluate", "-e", best, cwd=cwd).ok().out
    error = run(*arguments[:3], "y", *arguments[4:], *small, cwd=cwd).error
    assert error.startswith(f"{DATARC}.file_path: vqpool_ic needs this path: give -o ")
    assert "name it in corpora.yaml (ic: {root: PATH}" in error


def test_synthesise_names_what_it_made_and_keeps_the_rest(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from s3prl_vqpool.corpora import synthetic

    def made(out: Path, tasks: list[str], *_: object) -> dict:
        return {
            task: {place.key: str(out / task / place.key) for place in by_name(task).places} for task in tasks
        }

    monkeypatch.setattr(synthetic, "synthesise", made)
    file = write(Path("corpora.yaml"), "# mine\nic: {root: /data}\n")
    assert cli.main(["synthesise", "--output", ".", "--tasks", "er", "sid"]) == 0
    text = file.read_text()
    assert text.startswith("# mine\nic: {root: /data}\n")
    assert yaml.safe_load(text) == {
        "ic": {"root": "/data"},
        "er": {"root": "er/root", "meta_data": "er/meta_data"},
        "sid": {"root": "sid/file_path", "list": "sid/meta_data"},
    }
    assert cli.main(["synthesise", "--output", ".", "--tasks", "er", "ks"]) == 0
    assert file.read_text().startswith(text)
    assert "ks:" in file.read_text()
    before = file.read_text()
    assert cli.main(["synthesise", "--output", ".", "--tasks", "ic"]) == 2
    assert "corpora.yaml: names another corpus for ic" in capsys.readouterr().err
    assert file.read_text() == before
    write(file, "{ic: {root: /data}}")
    assert cli.main(["synthesise", "--output", ".", "--tasks", "er"]) == 2
    assert "by hand" in capsys.readouterr().err
    assert file.read_text() == "{ic: {root: /data}}"


def test_corpora_shows_what_is_set_and_whether_it_is_complete(
    synthetic: dict, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["corpora"]) == 2
    assert "VQPOOL_CORPORA is not set" in capsys.readouterr().err
    write(Path("corpora.yaml"), {"ic": synthetic["ic"], "er": {"root": synthetic["er"]["root"]}})
    assert cli.main(["corpora"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(str(folder / "cwd" / "corpora.yaml"))
    assert "ok  ic: fluent_commands: train 62, dev 62, test 62; classes 6 + 14 + 4" in out
    assert out.count("ok  er fold") == 5
    assert "--  ks: not set" in out
    write(Path("corpora.yaml"), {"ic": {"root": "gone"}})
    assert cli.main(["corpora"]) == 1
    assert f"NO  corpora.yaml: ic.root: {folder}/cwd/gone is not there" in capsys.readouterr().out
    assert cli.main(["doctor"]) == 1
    assert f"NO  corpora.yaml: ic.root: {folder}/cwd/gone is not there" in capsys.readouterr().out
