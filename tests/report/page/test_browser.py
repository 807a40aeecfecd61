"""The page in headless Chromium: it plays, sorts, takes keys, and nothing leaves it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from pages import SCRIPT, Opened

from s3prl_vqpool.store import Store

POINT = """([plot, place]) => {
  const found = document.querySelectorAll(".plane > div")[plot];
  const trace = found.data.findIndex((each) => each.customdata && each.customdata.includes(place));
  const at = found.data[trace].customdata.indexOf(place);
  const { xaxis, yaxis } = found._fullLayout;
  const box = found.getBoundingClientRect();
  return [box.left + xaxis._offset + xaxis.l2p(found.data[trace].x[at]),
          box.top + yaxis._offset + yaxis.l2p(found.data[trace].y[at])];
}"""
RINGS = "[...document.querySelectorAll('.plane > div')].map((plot) => [plot.data.at(-1).x[0], plot.data.at(-1).y[0]])"
PLAYS = "document.querySelector('audio').currentTime > 0.05"


def content(page: Path) -> Any:
    """What the page's script reads."""
    return json.loads(
        re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text())[1]
    )


def current(opened: Any) -> int:
    return int(opened.tab.locator('#list [aria-current="true"]').get_attribute("data-place"))


def codes(opened: Any, page: Path) -> list[list[int]]:
    return content(page)["sets"][0]["utterances"][current(opened)]["codes"]


def column(opened: Any, table: int, number: int) -> list[str]:
    rows = opened.tab.locator("table").nth(table).locator("tbody tr")
    return [row.locator("td").nth(number).inner_text() for row in rows.all()]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_both_schemes_are_readable(scheme: str, browser: Any, page: Path) -> None:
    opened = Opened(browser, page, color_scheme=scheme)
    colours = (
        "['color', 'backgroundColor'].map((name) => getComputedStyle(document.querySelector('.card'))[name])"
    )
    text, back = (list(map(int, re.findall(r"\d+", each)[:3])) for each in opened.tab.evaluate(colours))
    lightness = [sum(x * y for x, y in zip((0.2126, 0.7152, 0.0722), each)) for each in (text, back)]
    assert (lightness[0] > lightness[1]) == (scheme == "dark")
    assert abs(lightness[0] - lightness[1]) > 150
    assert opened.tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    opened.tab.close()
    assert opened.wrong == []


def test_hostile_text_is_shown_and_does_nothing(opened: Any) -> None:
    assert opened.tab.evaluate("window.hit") is None
    assert SCRIPT in column(opened, 0, 1)
    assert any(SCRIPT in text for text in opened.tab.locator("#list button").all_inner_texts())
    assert opened.tab.locator("#legend").inner_text().count("<img src=x onerror=alert(1)>") == 1
    assert opened.tab.locator("img[src=x]").count() == 0


def test_policy_refuses_any_other_script(browser: Any, page: Path) -> None:
    opened = Opened(browser, page)
    opened.tab.evaluate(
        "document.body.append(Object.assign(document.createElement('script'), {text: 'window.hit=1'}))"
    )
    opened.tab.evaluate("fetch('https://example.org').catch(() => 0)")
    opened.tab.wait_for_timeout(200)
    assert opened.tab.evaluate("window.hit") is None
    refused = [line for line in opened.wrong if "violates the following Content Security Policy" in line]
    assert len(refused) == 2, opened.wrong
    opened.tab.close()


def test_tables_sort_by_click_and_key(opened: Any) -> None:
    heads = opened.tab.locator("table").nth(0).locator("th")
    button = heads.nth(2).locator("button")
    button.click()
    assert [each.split()[0] for each in column(opened, 0, 2)] == ["70.12", "50.00", "9.50"]
    assert heads.nth(2).get_attribute("aria-sort") == "descending"
    button.focus()
    opened.tab.keyboard.press("Enter")
    assert [each.split()[0] for each in column(opened, 0, 2)] == ["9.50", "50.00", "70.12"]
    assert heads.nth(2).get_attribute("aria-sort") == "ascending"
    heads.nth(1).locator("button").click()
    assert column(opened, 0, 1)[1:] == ["AP", "SP"]
    assert heads.nth(2).get_attribute("aria-sort") is None


def test_click_on_an_utterance_plays_it(opened: Any, page: Path) -> None:
    button = opened.tab.locator("#list button").nth(3)
    button.click()
    opened.until(PLAYS)
    place = int(button.get_attribute("data-place"))
    assert current(opened) == place
    assert opened.said("heading") == content(page)["sets"][0]["utterances"][place]["id"]
    moved = opened.tab.locator("#cursor").get_attribute("style")
    opened.until(f"document.querySelector('#cursor').getAttribute('style') !== {json.dumps(moved)}")


def test_click_on_a_frame_plays_all_frames_of_its_code(opened: Any, page: Path) -> None:
    shown = codes(opened, page)
    box = opened.tab.locator("#ribbons").bounding_box()
    seconds = content(page)["sets"][0]["utterances"][current(opened)]["seconds"]
    frame = len(shown) // 3
    x = (frame + 0.5) * content(page)["sets"][0]["hop"] / seconds * box["width"]
    opened.tab.locator("#ribbons").click(position={"x": x, "y": 0.75 * box["height"]})
    code = shown[frame][1]
    frames = sum(each[1] == code for each in shown)
    assert opened.said("status").startswith(f"Code {code} of codebook 2: {frames} of {len(shown)} frames")
    stage = opened.tab.locator("#stage")
    assert int(stage.get_attribute("aria-valuenow")) == frame + 1
    opened.until("document.querySelector('#stage').dataset.playing === 'code'")
    opened.until("!document.querySelector('#stage').dataset.playing")


def test_frames_are_reached_by_keys(opened: Any, page: Path) -> None:
    shown, stage = codes(opened, page), opened.tab.locator("#stage")
    stage.focus()
    for key in ("End", "ArrowLeft", "ArrowDown"):
        opened.tab.keyboard.press(key)
    last = len(shown) - 2
    said = stage.get_attribute("aria-valuetext")
    assert int(stage.get_attribute("aria-valuenow")) == last + 1
    assert f"codebook 1 code {shown[last][0]}, codebook 2 code {shown[last][1]}, chosen: codebook 2" in said
    opened.tab.keyboard.press("Enter")
    assert opened.said("status").startswith(f"Code {shown[last][1]} of codebook 2")
    opened.tab.keyboard.press("Space")
    opened.until(PLAYS)
    opened.tab.keyboard.press("Space")
    assert opened.tab.evaluate("document.querySelector('audio').paused")


def test_maps_are_linked_and_play(opened: Any, page: Path) -> None:
    found = content(page)["sets"][0]
    place = 12
    opened.tab.evaluate("document.querySelector('#map').scrollIntoView({behavior: 'instant'})")
    x, y = opened.tab.evaluate(POINT, [0, place])
    opened.tab.mouse.move(x - 2, y - 2)
    opened.tab.mouse.move(x, y)
    opened.tab.wait_for_timeout(200)
    for name, ring in zip(found["planes"], opened.tab.evaluate(RINGS)):
        assert ring == found["planes"][name][place]
    assert found["utterances"][place]["id"] in opened.said("pointed")
    opened.tab.mouse.click(x, y)
    opened.until(PLAYS)


def test_map_is_walked_by_keys(opened: Any, page: Path) -> None:
    found = content(page)["sets"][0]
    places = next(iter(found["planes"].values()))
    before = current(opened)
    opened.tab.locator(".plane > div").first.focus()
    opened.tab.keyboard.press("ArrowRight")
    (x, y), _ = opened.tab.evaluate(RINGS)
    if [x, y] != places[before]:
        assert x > places[before][0]
    opened.tab.keyboard.press("ArrowLeft")
    opened.tab.keyboard.press("Enter")
    opened.until(PLAYS)


def test_list_is_filtered_by_right_and_wrong(opened: Any, page: Path) -> None:
    shown = [each for each in content(page)["sets"][0]["utterances"] if "codes" in each]
    wrong = sum(each["label"] != each["predicted"] for each in shown)
    assert 0 < wrong < len(shown) == 8
    for name, count in (("wrong", wrong), ("right", 8 - wrong), ("all", 8)):
        opened.tab.locator(f'[data-filter="{name}"]').click()
        assert opened.tab.locator("#list button").count() == count


def test_long_utterance_is_cut_and_says_so(opened: Any, page: Path, results: Path) -> None:
    store = Store.open(results / "stores" / "ic")
    long = [row.id for row in store.utterances if row.samples == 21 * 16000]
    every = content(page)["sets"][0]["utterances"]
    (each,) = (each for each in every if each["id"] in long)
    if "codes" in each:
        assert len(each["codes"]) * content(page)["sets"][0]["hop"] <= 20.01
        assert each["whole"] == 21
