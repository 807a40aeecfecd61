"""A folder with a store, a table, an experiment and a figure, whose names are hostile; the page of it; a browser."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from s3prl_vqpool import cli

sys.path.insert(0, str(Path(__file__).parent))

from pages import FIGURE, SCRIPT, TABLE, Opened, commands


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything that a page can show."""
    folder = tmp_path_factory.mktemp("page") / "results"
    corpus = commands(folder.parent / "corpus")
    datarc = "config.downstream_expert.datarc"
    override = f"{datarc}.file_path={corpus},,{datarc}.num_workers=0"
    command = ["extract", "-u", "mfcc_vq", "-d", "vqpool_ic", "-o", override, "--device", "cpu"]
    assert cli.main([*command, "--store", str(folder / "stores" / "ic")]) == 0
    (folder / "tables").mkdir()
    (folder / "tables" / "nearest.json").write_text(json.dumps(TABLE))
    for suffix in ("csv", "md"):
        (folder / "tables" / f"nearest.{suffix}").touch()
    (folder / "figures").mkdir()
    (folder / "figures" / "a figure.svg").write_text(FIGURE)
    experiment = folder / "experiments" / "first"
    experiment.mkdir(parents=True)
    (experiment / "log.log").write_text(
        "dev at step 50: 0.25\ntest at step 50: 0.5\ndev at step 100: 0.75\nNew best on dev at step 100: 0.75\n"
        "test at step 100: 0.625\ndev at step 150: 0.75\ntest at step 150: 0.125\ntest at step 0: 0.1\n"
    )
    (experiment / "config_1.yaml").write_text(f"downstream_expert: {{modelrc: {{pooling: '{SCRIPT}'}}}}")
    return folder


@pytest.fixture(scope="session")
def page(results: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("written") / "page.html"
    assert cli.main(["report", str(results), "--output", str(output), "--utterances", "8"]) == 0
    return output


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium without a screen, without sandbox (tests run as root in containers)."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no browser: chromium is not installed")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        pytest.skip("no browser: playwright is not installed")
    options = ("--no-sandbox", "--disable-gpu", "--disable-background-networking")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=program, args=[*options, "--mute-audio"])
        yield opened
        opened.close()


@pytest.fixture
def opened(browser: Any, page: Path) -> Iterator[Opened]:
    found = Opened(browser, page)
    yield found
    found.tab.close()
    assert found.wrong == []
