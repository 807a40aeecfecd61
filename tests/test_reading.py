"""JSON and YAML that anybody wrote: what is no plain data is refused in one line, and costs neither time nor memory."""

from __future__ import annotations

import json
import random
import re
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from s3prl_vqpool import files
from s3prl_vqpool.codes import codebook
from s3prl_vqpool.corpora.iemocap import iemocap
from s3prl_vqpool.errors import InputError
from s3prl_vqpool.files import parse_json, parse_yaml
from s3prl_vqpool.runner import config

DOUBLED = "a0: &a0 [1]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 49))
BAD_YAML = {
    "doubled": (DOUBLED, "more than 1,000,000 values"),
    "deep": ("a: " + "[" * 100_000, "nested too deeply"),
    "rather deep": ("a: " + "[" * 70 + "]" * 70, "nested too deeply"),
    "its own part": ("a: &a [*a]", "nested too deeply"),
    "date": ("lr: 2020-01-01", "2020-01-01 is a date, expected a number or text"),
    "time": ("lr: 2020-01-01 10:00:00", "is a datetime, expected a number or text"),
    "no date": ("lr: 2020-99-99", "not YAML"),
    "long": (f"lr: {10**30}", "a whole number is beyond 64 bits"),
    "very long": ("lr: " + "9" * 10_000, "not YAML"),
    "bytes": ("a: !!binary aGk=", "is a bytes, expected"),
    "set": ("a: !!set {b, c}", "is a set, expected"),
    "key": ("? [a, b]\n: c", "not YAML"),
    "nothing as key": ("null: c", "the key None is no text"),
    "python": ("a: !!python/object/apply:os.getcwd []", "not YAML"),
    "control": ("a: \x01", "not YAML"),
}


@pytest.mark.parametrize("name", BAD_YAML)
def test_yaml_that_is_no_plain_data_is_refused(name: str, tmp_path: Path) -> None:
    text, said = BAD_YAML[name]
    begun = time.monotonic()
    with pytest.raises(InputError) as error:
        parse_yaml(text, "a.yaml")
    assert str(error.value).startswith("a.yaml: ")
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    path = tmp_path / "config.yaml"
    path.write_text(text)
    for read in (lambda: config.find("vqpool_ks", str(path)), lambda: codebook.load(path)):
        with pytest.raises(InputError, match=r"config\.yaml: ") as error:
            read()
        assert "\n" not in str(error.value)
    assert time.monotonic() - begun < 60


def test_plain_yaml_is_what_yaml_says() -> None:
    text = "a: [1, 1.5, -3, yes, null, 'x']\nb: {c: &d [1], e: *d}\n3: x\n1.5: y\n"
    assert parse_yaml(text, "a.yaml") == yaml.safe_load(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"a": ' + "9" * 5000 + "}", "is beyond 64 bits"),
        (f'{{"a": -{2**63}}}', "is beyond 64 bits"),
        ('{"a": 1,\n}', "line 2: malformed JSON"),
        ("", "line 1: malformed JSON"),
    ],
)
def test_json_that_is_no_plain_data_is_refused(text: str, said: str) -> None:
    with pytest.raises(InputError) as error:
        parse_json(text, "a.json", "Fetch it again.")
    assert said in str(error.value)
    assert str(error.value).endswith("Fetch it again.")
    assert "\n" not in str(error.value)


JUNK: tuple[Any, ...] = (
    None,
    True,
    -1,
    3,
    10**25,
    1.5,
    float("nan"),
    "",
    "a\0b",
    "\udcff",
    [],
    {},
    ["x"],
    {"a": 1},
)


def test_damaged_meta_data_of_iemocap_is_one_line(tmp_path: Path) -> None:
    """220 files with one value replaced or left out, or cut."""
    (tmp_path / "x.wav").write_bytes(b"")
    folder = tmp_path / "meta_data" / "Session1"
    folder.mkdir(parents=True)
    rows = [{"path": "x.wav", "label": name, "speaker": "a"} for name in ("neu", "hap")] * 3
    good = json.dumps({"labels": {"neu": 0, "hap": 1}, "meta_data": rows})
    (folder / "test_meta_data.json").write_text(good)
    chosen, refused = random.Random(0), 0
    for _ in range(220):
        (folder / "train_meta_data.json").write_text(_damaged(good, chosen), "utf-8", "surrogatepass")
        with pytest.raises(InputError) as error:  # x.wav is in two splits, if nothing else
            iemocap(tmp_path)
        refused += "is in train and in" not in str(error.value)
        assert "\n" not in str(error.value).replace(str(tmp_path), "")
    assert refused > 150


def _damaged(text: str, chosen: random.Random) -> str:
    if chosen.random() < 0.2:
        at = chosen.randrange(len(text))
        return text[:at] + chosen.choice(["", "[" * 100_000, "\x00", "9" * 5000])
    content = json.loads(text)
    container, key = chosen.choice(
        [(content, "labels"), (content, "meta_data"), (content["labels"], "neu"), (content["meta_data"], 1)]
        + [(content["meta_data"][2], name) for name in ("path", "label")]
    )
    if chosen.random() < 0.3:
        del container[key]
    else:
        container[key] = chosen.choice(JUNK)
    return json.dumps(content)


#: A table's lines have names that come once only, and numbers of any length, which are texts there.
OWN_RULES = {Path("corpora/table/sources.py")}


def test_no_other_module_parses_json_or_yaml() -> None:
    """A second reader would be a second rule; what this process has made a moment ago may be read back."""
    package = Path(files.__file__).parent
    found = {
        path.relative_to(package)
        for path in package.rglob("*.py")
        if re.search(
            r"json\.loads?\((?!json\.dumps|self\.table\.json)|yaml\.\w*load", path.read_text("utf-8")
        )
    }
    assert found == {Path("files.py"), *OWN_RULES}
