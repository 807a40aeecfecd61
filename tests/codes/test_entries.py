"""What is given to an upstream by name is used, or refused in one line that names what to give instead."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import s3prl_vqpool  # noqa: F401 (S3PRL's own modules import after it on every stack)

# isort: split
import pytest
from s3prl import hub
from s3prl.nn import S3PRLUpstream

from s3prl_vqpool.cli.main import main
from s3prl_vqpool.codes.entries import check_given, hub_entry
from s3prl_vqpool.errors import InputError
from s3prl_vqpool.runner import plugin

TAKE_NONE = {"mfcc_vq", "fbank_vq", "wav2vec2_vq_tiny"}


@pytest.mark.parametrize("name", sorted(plugin.upstreams()))
def test_an_entry_refuses_what_it_does_not_name(name: str) -> None:
    entry = plugin.upstreams()[name]
    entry.check(ckpt=None, model_config=None, refresh=False)  # S3PRL's runner always gives these
    assert "model_config" in entry.named
    with pytest.raises(
        InputError, match=rf"Unknown argument of {name}: 'model_confg'\. Did you mean model_config"
    ):
        entry(model_confg="counts.safetensors")
    if "ckpt" not in entry.named:
        with pytest.raises(InputError) as refused:
            entry(ckpt="no/such/file.pt")
        assert str(refused.value).startswith(
            f"-k no/such/file.pt: {name} has weights of its own, and would not use it:"
        )


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("wav2vec2_vq", "use -u wav2vec2_vq_local."),
        ("wav2vec2_vq_tiny", "use -u wav2vec2_vq_local."),
        ("vq_wav2vec_vq", "use -u vq_wav2vec_vq_custom."),
        ("mfcc_vq", "leave -k out."),
        ("hubert", "use -u hubert_local."),
        ("wav2vec2", "use -u wav2vec2_local."),
        ("wavlm_large", "use -u wavlm_local."),
        ("mfcc", "leave -k out."),
        ("fbank", "leave -k out."),
        ("baseline_local", "leave -k out."),
        ("passt_base", "leave -k out."),
        ("mos_tera", "use -u mos_tera_local."),
        ("cvhubert", "use -u espnet_hubert_local."),
    ],
)
def test_a_checkpoint_for_a_name_that_fixes_its_weights_names_the_right_one(name: str, instead: str) -> None:
    with pytest.raises(InputError) as refused:
        check_given(getattr(hub, name), ckpt="my.pt", model_config=None, refresh=False)
    assert str(refused.value).startswith(f"-k my.pt: {name} ")
    assert str(refused.value).endswith(instead)
    other = instead.removeprefix("use -u ").rstrip(".")
    assert not instead.startswith("use") or callable(getattr(hub, other))


@pytest.mark.parametrize(
    "name", ["wav2vec2_vq_local", "kmeans_vq", "hubert_local", "wav2vec2_custom", "customized_upstream"]
)
def test_a_name_that_takes_a_checkpoint_is_left_alone(name: str) -> None:
    check_given(getattr(hub, name), ckpt="my.pt", model_config=None, refresh=False)


S3PRLS = [
    name
    for name, entry in vars(hub).items()
    if getattr(entry, "__module__", "").endswith("hubconf") and not hasattr(entry, "check")
]


def recorded(expert: type, arrived: list[object]) -> Callable[..., MagicMock]:
    """In place of one of S3PRL's experts: notes what its parameters would get."""
    signature = inspect.signature(expert.__init__)  # type: ignore[misc]
    kinds = {name: each.kind for name, each in signature.parameters.items()}

    def make(*args: Any, **kwargs: Any) -> MagicMock:
        bound = signature.bind(None, *args, **kwargs).arguments
        arrived.extend(
            value for name, value in bound.items() if kinds[name] is not inspect.Parameter.VAR_KEYWORD
        )
        return MagicMock()

    return make


@pytest.fixture
def arrived(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What S3PRL's experts are made with, while nothing is downloaded, read or built."""
    found: list[object] = []
    monkeypatch.setattr("os.path.isfile", lambda path: True)
    for module in [
        each for name, each in sys.modules.items() if name.startswith("s3prl.") and "hubconf" in name
    ]:
        for name, value in list(vars(module).items()):
            if name == "_urls_to_filepaths":
                fetched = lambda *urls, refresh=False: urls[0] if len(urls) == 1 else urls  # noqa: E731
                monkeypatch.setattr(module, name, fetched)
            elif name == "torch":
                monkeypatch.setattr(module, name, MagicMock())
            elif inspect.isclass(value) and value.__module__.endswith("expert"):
                monkeypatch.setattr(module, name, recorded(value, found))
    return found


def is_refused(name: str, key: str) -> bool:
    try:
        check_given(getattr(hub, name), **{key: "mine"})
    except InputError:
        return True
    return False


#: Judged before the fixture `arrived` replaces what the judgement reads.
REFUSED = {(name, key) for name in S3PRLS for key in ("ckpt", "model_config") if is_refused(name, key)}


@pytest.mark.parametrize("key", ["ckpt", "model_config"])
def test_s3prls_entries_take_what_their_experts_get_and_refuse_the_rest(
    key: str, arrived: list[object]
) -> None:
    for name in S3PRLS:
        entry = getattr(hub, name)
        needed = [each.name for each in inspect.signature(entry).parameters.values()
                  if each.default is each.empty and each.kind is each.POSITIONAL_OR_KEYWORD]  # fmt: skip
        if name.endswith("_local") and name != "baseline_local":
            needed.append("ckpt")
        arrived.clear()
        try:
            entry(**{**dict.fromkeys(needed, "x"), key: "mine"})
        except (TypeError, AttributeError):
            continue  # S3PRL itself does not drop it
        assert ("mine" in arrived) != ((name, key) in REFUSED), name


def test_a_file_for_g_and_r_that_are_not_used_are_refused() -> None:
    with pytest.raises(
        InputError, match=r"^-g my\.yaml: hubert takes no such file, and would not use it: leave -g out\.$"
    ):
        check_given(hub.hubert, model_config="my.yaml")
    for name in TAKE_NONE:
        with pytest.raises(InputError, match=rf"^-r \(refresh\): {name} does not use it"):
            check_given(getattr(hub, name), refresh=True)


def test_s3prls_library_interface_refuses_too() -> None:
    with pytest.raises(InputError, match="use -u wav2vec2_vq_local"):
        S3PRLUpstream("wav2vec2_vq_tiny", path_or_url="no/such/file.pt")
    with pytest.raises(InputError, match="Unknown argument of mfcc_vq: 'counts'"):
        S3PRLUpstream("mfcc_vq", extra_conf={"counts": "x"})
    with pytest.raises(
        InputError, match=r"^-k my\.pt: hubert has weights of its own.*use -u hubert_local\.$"
    ):
        S3PRLUpstream("hubert", path_or_url="my.pt")
    assert S3PRLUpstream("mfcc_vq", extra_conf={"model_config": None}).num_layers == 1
    assert S3PRLUpstream("mfcc").num_layers == 1
    assert {"hubert", "mfcc_vq"} < set(S3PRLUpstream.available_names())
    assert hub.hubert.__module__ == "s3prl.upstream.hubert.hubconf"  # S3PRL's own, for everybody else


@pytest.mark.parametrize(
    "argv",
    [
        ["codes", "SPEECH", "-u", "wav2vec2_vq_tiny", "-k", "my.pt"],
        ["extract", "-u", "wav2vec2_vq_tiny", "-k", "my.pt", "-d", "vqpool_ic", "--store", "store"],
        [
            "kmeans",
            "SPEECH",
            "-u",
            "hubert",
            "-k",
            "my.pt",
            "-l",
            "0",
            "--entries",
            "2",
            "--output",
            "books.yaml",
        ],
    ],
)
def test_verbs_refuse_and_write_nothing(
    argv: list[str],
    tmp_path: Path,
    synthetic: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    root = synthetic["ic"]["file_path"]
    more = ["-o", f"config.downstream_expert.datarc.file_path={root}"] if argv[0] == "extract" else []
    assert main([root if word == "SPEECH" else word for word in [*argv, *more]]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: -k my.pt: ")
    assert line.endswith("_local.")
    assert list(tmp_path.iterdir()) == []


def test_positional_arguments_are_the_functions() -> None:
    @hub_entry
    def one(ckpt: str | None = None, refresh: bool = False) -> tuple:
        return ckpt, refresh

    assert one("a", model_config=None) == one(ckpt="a") == ("a", False)
    assert one.__name__ == "one"
