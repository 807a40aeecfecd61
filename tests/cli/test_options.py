"""The words of `vqpool`: one name for one thing in every verb; names of earlier versions are told the new one."""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator

import pytest

from s3prl_vqpool import cli


def actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                yield from actions(child)
        else:
            yield action


@pytest.fixture(scope="module")
def names() -> dict[str, set[str]]:
    """For each option, short or long, all the forms that it has in the verbs, such as `--upstream -u`."""
    found: dict[str, set[str]] = defaultdict(set)
    for verb in cli.VERBS:
        parser = argparse.ArgumentParser(add_help=False)
        cli.module_of(verb).add_arguments(parser)
        for action in actions(parser):
            for name in action.option_strings:
                found[name].add(" ".join(sorted(set(action.option_strings))))
    return found


def test_a_letter_means_the_same_in_every_verb(names: dict[str, set[str]]) -> None:
    assert {name: forms for name, forms in names.items() if name[1] != "-" and len(forms) > 1} == {}


def test_the_words_that_verbs_share(names: dict[str, set[str]]) -> None:
    for form in ("--upstream -u", "--checkpoint -k", "--model-config -g", "--output", "--poolings"):
        assert all(names[name] == {form} for name in form.split()), form


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("train -d vqpool_ks --store s --pooling mean -p exp", "--pooling: write --poolings"),
        ("train --pooling=mean", "--pooling: write --poolings"),
        ("codes a.wav --out units.npz", "--out: write --output"),
        ("kmeans speech --out=a.yaml -u hubert -l 9 --entries 5", "--out: write --output"),
        ("kmeans speech --output a.yaml -u hubert -l 9 -k 500", "-k 500: write --entries"),
        ("kmeans speech -k500 --output a.yaml -u hubert -l 9", "-k500: write --entries"),
        ("store add-pooling s VQ-SIF --a 1e-2", "--a: write --option a=VALUE"),
        ("demo --out demo", "--out: write --output"),
        ("extract -u wav2vec2_vq_local --upstream_ckpt a.pt", "--upstream_ckpt: write --checkpoint"),
        ("extract --upstream_model_config a.yaml", "--upstream_model_config: write --model-config"),
        ("convert a.pt b.safetensors", "a.pt b.safetensors: write IN --output OUT"),
        ("synthesise corpora --tasks ks", "corpora: write --output FOLDER"),
    ],
)
def test_a_name_of_an_earlier_version_is_one_line_with_the_new_one(
    command: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(command.split()) == 2
    verb = command.split()[0]
    assert capsys.readouterr().err == f"error: {said} (vqpool {verb} --help).\n"


def test_names_of_today_are_none_of_earlier_versions() -> None:
    for command in (
        "kmeans speech -u wav2vec2_local -k 500.pt -l 0 --entries 500 --output a.yaml",
        "convert a.pt --output b.pt",
        "synthesise --output corpora --tasks ks",
    ):
        cli.options.refuse_renamed(command.split())
