"""Hostile names, a small corpus of them, and a page in the browser."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

SCRIPT = "</script><script>window.hit = 1; alert(1)</script>"
SLOTS = [("activate", SCRIPT, "none"), ("<img src=x onerror=alert(1)>", "volume", "=cmd()")]
TABLE = {
    "title": f"Table of {SCRIPT}",
    "notes": [SCRIPT],
    "rows": [
        {"source": "one", "pooling": "AP", "accuracy": {"IC": 9.5}, "average": None, "layer": None,
         "deviation": {"IC": 0.25}},
        {"source": "one", "pooling": SCRIPT, "accuracy": {"IC": 70.125}, "average": None, "layer": None,
         "deviation": {}, "interval": {"IC": [60.25, 80.75]}},
        {"source": "paper: one", "pooling": "SP", "accuracy": {"IC": 50}, "average": None, "layer": None,
         "deviation": {}},
    ],
}  # fmt: skip
FIGURE = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="30" height="20">'
    "<script>parent.hit = 2; alert(2)</script><rect width='30' height='20'/></svg>"
)


def commands(root: Path) -> Path:
    """Fluent Speech Commands' layout: noise of two colours, 20 utterances a split, one of them 21 s long."""
    generator = np.random.default_rng(0)
    for name in ("data", "wavs"):
        (root / name).mkdir(parents=True)
    for split in ("train", "valid", "test"):
        rows = []
        for k in range(20):
            path = root / "wavs" / f"{split}{k}.wav"
            samples = 21 * 16000 if (split, k) == ("test", 3) else 8000 + 800 * k
            noise = np.convolve(generator.standard_normal(samples), np.hanning(5 + 2 * (k % 2)), "same")
            soundfile.write(path, 0.1 * noise / noise.std() * np.hanning(samples), 16000)
            rows.append([k, f"wavs/{path.name}", "speaker", "words", *SLOTS[k % 2]])
        with open(root / "data" / f"{split}_data.csv", "w", newline="") as file:
            header = ["", "path", "speakerId", "transcription", "action", "object", "location"]
            csv.writer(file).writerows([header, *rows])
    return root


class Opened:
    """A page in the browser, and what went wrong there."""

    def __init__(self, browser: Any, path: Path, **options: Any) -> None:
        self.tab = browser.new_page(viewport={"width": 1280, "height": 900}, **options)
        self.wrong: list[str] = []
        self.tab.on("console", lambda message: self.wrong.append(f"console: {message.text}"))
        self.tab.on("pageerror", lambda error: self.wrong.append(f"error: {error}"))
        self.tab.on("dialog", lambda dialog: (self.wrong.append("dialog"), dialog.dismiss()))
        self.tab.on("request", self._requested)
        self.tab.goto(path.as_uri())
        self.tab.locator("#list button").first.wait_for()

    def _requested(self, request: Any) -> None:
        if not request.url.startswith(("file:", "data:")):
            self.wrong.append(f"request: {request.url}")

    def until(self, expression: str) -> None:
        """Wait until an expression is true; Playwright's own way needs `eval`, which the page forbids."""
        for _ in range(100):
            if self.tab.evaluate(expression):
                return
            self.tab.wait_for_timeout(50)
        raise AssertionError(expression)

    def said(self, name: str) -> str:
        return str(self.tab.locator(f"#{name}").text_content())
