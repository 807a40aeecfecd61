"""`vqpool demo` after its training: the page, or why there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from s3prl_vqpool import cli
from s3prl_vqpool.cli import demo


@pytest.fixture
def trained(synthetic: dict[str, dict[str, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Training leaves a log, and takes no time; the corpus is the small one."""

    def train(name: str, upstream: str, folder: Path, datarc: dict[str, str], own_code: list[str]) -> float:
        folder.mkdir(parents=True)
        (folder / "log.log").write_text("dev at step 50: 0.5\ntest at step 0: 0.375\n")
        return 0.375

    monkeypatch.setattr(demo, "_train_and_evaluate", train)
    monkeypatch.setattr("s3prl_vqpool.corpora.synthetic.synthesise", lambda *_: {"ks": synthetic["ks"]})


def test_demo_ends_with_the_page_and_says_where(
    trained: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["demo", "--output", str(tmp_path / "demo"), "-u", "mfcc_vq"]) == 0
    said = capsys.readouterr().out.splitlines()
    page = tmp_path / "demo" / "report.html"
    assert said[-1] == f"the page: {page}: open it in a browser"
    text = page.read_text()
    assert "37.50" in text
    assert "KS, mfcc_vq" in text


def test_demo_without_the_extra_says_what_to_install(
    trained: None, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert cli.main(["demo", "--output", str(tmp_path / "demo")]) == 0
    assert "pip install 's3prl-vqpool[report]'" in capsys.readouterr().out.splitlines()[-1]
    assert not (tmp_path / "demo" / "store").exists()
