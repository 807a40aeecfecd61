"""`vqpool`: what it prints and its exit codes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import s3prl_vqpool  # noqa: F401 (S3PRL's own modules import after it on every stack)

# isort: split
import pytest

from s3prl_vqpool import cli, pooling
from s3prl_vqpool.corpora import synthetic
from s3prl_vqpool.runner.plugin import downstreams, upstreams

ROOT = Path(__file__).resolve().parents[2]

WITHOUT = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == {package!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}")
sys.meta_path.insert(0, Absent())
sys.path.insert(0, {root!r})
from s3prl_vqpool.cli import main
sys.exit(main({argv!r}))
"""


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    return synthetic.synthesise(tmp_path_factory.mktemp("cli") / "corpora", ("ks", "ic"), "small")


@pytest.mark.parametrize(
    ("kind", "names"),
    [("upstreams", upstreams()), ("downstreams", downstreams()), ("poolings", pooling.methods())],
)
def test_list_prints_every_registered_name_once(
    kind: str, names: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["list", kind]) == 0
    printed = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert set(names) <= set(printed)
    assert len(set(printed)) == len(printed)


def test_list_poolings_says_what_each_needs(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["list", "poolings"])
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    for name in pooling.methods():
        assert ("codes" in lines[name]) == pooling.method(name).needs_codes
        assert ("training statistics" in lines[name]) == pooling.method(name).needs_statistics


def test_doctor_counts_a_whole_corpus(
    corpora: dict[str, dict[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["doctor", "--ks", *corpora["ks"].values(), "--ic", *corpora["ic"].values()]) == 0
    lines = capsys.readouterr().out.splitlines()
    tests = len(list(Path(corpora["ks"]["speech_commands_test_root"]).glob("*/*.wav")))
    assert any(
        line.startswith("ok  ks: speech_commands: train ") and f"test {tests};" in line for line in lines
    )
    assert lines[-1] == "the main job can run"


def test_doctor_names_the_first_missing_file(
    corpora: dict[str, dict[str, str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    synthetic.synthesise(tmp_path, ("ic",), "small")
    root = tmp_path / "fluent_speech_commands_dataset"
    missing = sorted(root.glob("wavs/speakers/*/*.wav"))[0]
    missing.unlink()
    assert cli.main(["doctor", "--ic", str(root)]) == 1
    output = capsys.readouterr().out
    (line,) = [line for line in output.splitlines() if line.startswith("NO ")]
    assert missing.name in line


def test_doctor_looks_at_every_fold_without_lists_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    datarc = synthetic.synthesise(tmp_path, ("er",), "small")["er"]
    shutil.rmtree(datarc["meta_data"])
    assert cli.main(["doctor", "--er", datarc["root"]]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("ok  er ")]
    assert [line.split(":")[0] for line in lines] == [f"ok  er fold{k}" for k in range(1, 6)]


def test_doctor_says_which_paths_a_corpus_needs(
    corpora: dict[str, dict[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["doctor", "--er", "root", "lists", "more"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "error: --er root lists more: expected --er ROOT [META_DATA], or corpora.yaml."
    assert cli.main(["doctor", "--ks", corpora["ks"]["speech_commands_root"]]) == 1
    assert "NO  ks: Speech Commands: Expected speech_commands_test_root as well" in capsys.readouterr().out


def test_doctor_recognises_another_corpus(
    corpora: dict[str, dict[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["doctor", "--ic", corpora["ks"]["speech_commands_root"]]) == 1
    assert "looks like Speech Commands" in capsys.readouterr().out


@pytest.mark.parametrize("package", ["transformers", "soundfile"])
def test_doctor_runs_where_the_main_job_cannot(package: str, tmp_path: Path) -> None:
    code = WITHOUT.format(package=package, root=str(ROOT), argv=["doctor", "--ic", str(tmp_path)])
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=120
    )
    assert ran.returncode == 1, ran.stderr
    assert any(line.startswith("NO ") and package in line for line in ran.stdout.splitlines()), ran.stdout
    assert "Traceback" not in ran.stderr


def test_synthesise_prints_commands_with_the_corpus_in_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["synthesise", "--output", str(tmp_path), "--tasks", "ic", "--size", "small"]) == 0
    line, told = capsys.readouterr().out.splitlines()
    file = tmp_path / "corpora.yaml"
    assert told == f"they are named in {file}: vqpool corpora --corpora {file}"
    assert line == (
        "ic: run_downstream.py -m train -n ic -u wav2vec2_vq_tiny -d vqpool_ic -o "
        f'"config.downstream_expert.datarc.file_path={tmp_path}/fluent_speech_commands_dataset,,'
        "config.runner.total_steps=100,,config.runner.eval_step=50,,config.runner.log_step=50,,"
        'config.optimizer.lr=1e-2"'
    )


@pytest.mark.parametrize("verb", cli.VERBS)
def test_help_has_an_example(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main([*verb.split(), "--help"])
    assert stopped.value.code == 0
    assert f"example:\n  vqpool {verb}" in capsys.readouterr().out


def test_a_mistake_is_exit_code_2_and_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "IEMOCAP").mkdir()
    assert cli.main(["synthesise", "--output", str(tmp_path), "--tasks", "er", "--size", "small"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {tmp_path}/IEMOCAP: already there, and not this corpus")


def test_a_reader_that_stops_reading_is_no_failure() -> None:
    command = f"{sys.executable} -W ignore -m s3prl_vqpool list upstreams; echo $? >&2"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(
        ["bash", "-c", f"({command}) | head -1"], capture_output=True, text=True, timeout=120, env=environment
    )
    assert ran.stdout.startswith("upstream ")
    assert ran.stderr == "0\n"
