"""What the figures draw, against values that were computed otherwise."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import torch
from matplotlib import pyplot
from matplotlib.collections import LineCollection
from scipy.stats import entropy
from sklearn.metrics import confusion_matrix

from s3prl_vqpool import pooling, report
from s3prl_vqpool.errors import InputError
from s3prl_vqpool.report import style
from s3prl_vqpool.report.codebook import perplexity
from s3prl_vqpool.report.embedding import most_frequent, suitable_perplexity
from s3prl_vqpool.report.utterance import envelope, log_mel

CODES = torch.tensor([[4, 0], [4, 0], [4, 1], [2, 1], [2, 1], [4, 1]])


def labels_of(figure: Any) -> list[str]:
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def noise(samples: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(samples).astype(np.float32)


def table(*rows: tuple, columns: str) -> pandas.DataFrame:
    return pandas.DataFrame(rows, columns=columns.split())


# ------------------------------------------------------------------------------------------------ codebook
def test_codebook_draws_the_counts_in_order() -> None:
    codes = torch.randint(12, (500,), generator=torch.Generator().manual_seed(0)) ** 2 // 12
    counts = torch.bincount(codes, minlength=16)
    (steps,) = report.codebook([counts]).patches
    expected = sorted((Counter(codes.tolist())[k] for k in range(16)), reverse=True)
    assert steps.get_data().values.tolist() == expected


def test_codebook_says_perplexity_and_entries_used() -> None:
    counts = torch.tensor([6, 3, 1, 0])
    axes = report.codebook([counts, torch.tensor([5, 5])])
    expected = math.exp(entropy([6, 3, 1, 0]))
    assert perplexity(counts) == pytest.approx(expected)
    assert labels_of(axes.figure) == [
        f"codebook 1: 3 of 4 used, perplexity {expected:.1f}",
        "codebook 2: 2 of 2 used, perplexity 2.0",
    ]


def test_codebook_without_frames_is_refused() -> None:
    with pytest.raises(InputError, match="Codebook 2: no frame"):
        report.codebook([torch.tensor([1]), torch.tensor([0, 0])])


# --------------------------------------------------------------------------------------------- experiments
def test_layer_weights_are_drawn_as_they_are() -> None:
    weights = {"a": torch.tensor([0.1, 0.6, 0.3]), "b": torch.tensor([0.2, 0.3, 0.5])}
    axes = report.layer_weights(weights)
    assert [line.get_ydata().tolist() for line in axes.lines] == [each.tolist() for each in weights.values()]
    (equal,) = (each for each in axes.collections if isinstance(each, LineCollection))
    assert equal.get_segments()[0].tolist() == [[0, 1 / 3], [2, 1 / 3]]
    assert labels_of(axes.figure) == ["a", "b"]


LOG = table(
    ("AP", 0.1, "dev", 2, 50.0), ("AP", 0.1, "dev", 1, 40.0), ("AP", 0.1, "train", 1, 10.0),
    ("AP", 0.01, "dev", 1, 30.0), ("VQ-LP", 0.1, "dev", 1, 60.0), ("AP", 0.1, "test", 1, 99.0),
    columns="pooling rate split step accuracy",
)  # fmt: skip


def drawn(panel: Any) -> list[list]:
    return [line.get_ydata().tolist() for line in panel.lines if len(line.get_ydata())]


def test_curves_by_rate_have_a_panel_for_each_pooling() -> None:
    panels = report.curves(LOG, "rate")
    assert [panel.get_title() for panel in panels] == ["AP", "VQ-LP"]
    assert drawn(panels[0]) == [
        [30.0],
        [40.0, 50.0],
        [10.0],
    ]  # the lowest rate first; steps in order; no test
    assert drawn(panels[1]) == [[60.0]]
    assert labels_of(panels[0].figure) == ["lr 0.01", "lr 0.1", "dev", "train"]


def test_curves_by_pooling_have_a_panel_for_each_rate() -> None:
    panels = report.curves(LOG, "pooling")
    assert [panel.get_title() for panel in panels] == ["lr 0.01", "lr 0.1"]
    assert drawn(panels[1]) == [[40.0, 50.0], [10.0], [60.0]]
    assert labels_of(panels[0].figure) == ["AP", "VQ-LP", "dev", "train"]


# -------------------------------------------------------------------------------------------------- tables
def test_accuracy_draws_dots_and_intervals() -> None:
    rows = table(
        ("ours", "KS", "AP", 70.0, 68.0, 72.5), ("ours", "KS", "VQ-LP", 80.0, 79.0, 81.0),
        ("ours", "IC", "AP", 9.0, 8.0, 9.5),
        ("paper", "KS", "VQ-LP", 82.0, np.nan, np.nan),
        columns="source task pooling accuracy low high",
    )  # fmt: skip
    ks, ic = report.accuracy(rows)
    assert [line.get_xdata().tolist() for line in ks.lines] == [[70.0, 80.0], [82.0]]
    ours, paper = (line.get_ydata() for line in ks.lines)
    assert np.round(ours).tolist() == [0, 1]  # the first pooling is at the top
    assert ks.get_ylim()[0] > ks.get_ylim()[1]
    assert ours[1] < paper[0] < 1.5
    bars = np.array(ks.collections[0].get_segments())  # [pooling, end, x and y]
    assert bars[:, :, 0].tolist() == [[68.0, 72.5], [79.0, 81.0]]
    assert (bars[:, 0, 1] == ours).all()
    assert [label.get_text() for label in ks.get_yticklabels()] == ["AP", "VQ-LP"]
    assert ic.lines[0].get_xdata().tolist() == [9.0]
    assert labels_of(ks.figure) == ["ours", "paper"]


def layered(*rows: tuple) -> pandas.DataFrame:
    return table(*rows, columns="source task pooling layer accuracy deviation")


def test_layers_draws_a_line_and_what_is_of_all_layers_apart() -> None:
    rows = layered(
        ("u", "KS", "AP", "mean", 65.0, np.nan),
        ("u", "KS", "AP", 0, 50.0, 1.0),
        ("u", "KS", "AP", 1, 60.0, 2.0),
        ("u", "KS", "AP", "learned", 70.0, 0.5),
        ("u", "KS", "SP", "mean", 1.0, np.nan),  # has no single layers
        ("paper", "KS", "AP", "mean", 99.0, np.nan),
    )
    (panel,) = report.layers(rows)
    line, dots = (each.lines[0] for each in panel.containers)
    assert (line.get_xdata().tolist(), line.get_ydata().tolist()) == ([0, 1], [50.0, 60.0])
    assert dict(zip(dots.get_xdata(), dots.get_ydata())) == {2.5: 65.0, 3.5: 70.0}
    ticks = dict(zip(panel.get_xticks(), (label.get_text() for label in panel.get_xticklabels())))
    assert ticks == {0: "0", 1: "1", 2.5: "mean", 3.5: "learned"}
    bar = panel.containers[0].lines[2][0].get_segments()
    assert [segment[:, 1].tolist() for segment in bar] == [[49.0, 51.0], [58.0, 62.0]]


def test_layers_of_a_table_without_layers_are_refused() -> None:
    with pytest.raises(InputError, match="--layers"):
        report.layers(layered(("u", "KS", "AP", "mean", 1.0, np.nan)))


@pytest.mark.parametrize("as_names", [True, False])
def test_confusion_is_that_of_scikit_learn(as_names: bool) -> None:
    generator, names = np.random.default_rng(0), ["_silence_", "a", "b $x^$"]
    labels, predicted = generator.integers(3, size=(2, 50))
    expected = confusion_matrix(labels, predicted, normalize="true")
    given = ([names[k] for k in each] if as_names else each.tolist() for each in (labels, predicted))
    axes = report.confusion(*given, names)
    np.testing.assert_allclose(axes.images[0].get_array(), expected)
    assert [label.get_text() for label in axes.get_yticklabels()] == names
    assert [text.get_text() for text in axes.texts] == [f"{100 * x:.0f}" for x in expected.ravel() if x]


# ------------------------------------------------------------------------------------------------- vectors
def test_embedding_draws_the_points_of_scikit_learn_in_the_colours_of_their_classes() -> None:
    from sklearn.manifold import TSNE

    vectors = torch.randn(30, 5, generator=torch.Generator().manual_seed(0))
    labels = [["_silence_", "b", "c"][k % 3] for k in range(30)]
    ap, _ = report.embedding({"AP": vectors, "VQ-LP": -vectors}, labels, perplexity=5, seed=3)
    expected = TSNE(perplexity=5, random_state=3, init="pca").fit_transform(vectors.numpy())
    assert len({tuple(each.get_facecolor()[0]) for each in ap.collections}) == 3
    for start, dots in enumerate(ap.collections):
        np.testing.assert_allclose(dots.get_offsets(), expected[start::3])
    assert labels_of(ap.figure) == ["_silence_", "b", "c"]
    assert ap.get_xlabel() == "t-SNE, perplexity 5, seed 3"


def test_embedding_refuses_a_perplexity_beyond_the_utterances() -> None:
    with pytest.raises(InputError, match=r"perplexity 4: .* number of utterances, 4"):
        report.embedding({"AP": torch.eye(4)}, list("aabb"), perplexity=4)
    with pytest.raises(InputError, match=r"t-SNE of 3 utterance.*at least 4"):
        report.embedding({"AP": torch.eye(3)}, list("aab"))


@pytest.mark.parametrize(("count", "perplexity"), [(4, 1), (16, 5), (91, 30), (400, 30)])
def test_perplexity_is_30_or_a_third_of_the_others(count: int, perplexity: float) -> None:
    assert suitable_perplexity(count) == perplexity


def test_most_frequent_labels_come_by_name() -> None:
    assert most_frequent(list("dccbbba"), 3) == ["a", "b", "c"]


# ----------------------------------------------------------------------------------------------- utterance
def test_utterance_draws_the_weights_of_the_poolings() -> None:
    one = torch.tensor([len(CODES)])
    weights = {name: pooling.weights(name, CODES[None], one)[0] for name in ("AP", "VQ-LP")}
    panels = report.utterance(noise(2000), CODES, weights, hop=0.02)
    for steps, expected in zip(panels[3].patches, weights.values(), strict=True):
        assert steps.get_data().values.tolist() == expected.tolist()
        np.testing.assert_allclose(steps.get_data().edges, np.arange(7) * 0.02)
    assert labels_of(panels[0].figure) == ["AP", "VQ-LP"]


def test_utterance_draws_runs_of_codes_as_ribbons() -> None:
    ribbons = report.utterance(noise(2000), CODES, {}, hop=0.02)[2]
    first, second = (
        [
            (round(path.vertices[:, 0].min(), 6), round(np.ptp(path.vertices[:, 0]), 6))
            for path in each.get_paths()
        ]
        for each in ribbons.collections
    )
    assert first == [(0, 0.06), (0.06, 0.04), (0.1, 0.02)]
    assert second == [(0, 0.04), (0.04, 0.08)]
    assert [text.get_text() for text in ribbons.texts] == ["4", "2", "4", "0", "1"]
    colours = ribbons.collections[0].get_facecolor()
    assert (colours[0] == colours[2]).all()
    assert (colours[0] != colours[1]).any()


def test_envelope_keeps_the_extremes_of_each_piece() -> None:
    samples = noise(3007)  # pieces of 3
    seconds, values = envelope(samples)
    for k in (0, 500, 1001):
        piece = samples[3 * k : 3 * k + 3]
        assert values[2 * k : 2 * k + 2].tolist() == [min(piece), max(piece)]
        assert seconds[2 * k] == seconds[2 * k + 1] == pytest.approx(3 * k / 16000)
    assert (envelope(samples[:900])[1][::2] == samples[:900]).all()


def test_spectrogram_of_a_tone_is_loudest_at_its_frequency() -> None:
    tone = np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000).astype(np.float32)
    spectrogram = log_mel(tone)
    assert spectrogram.max() == 0
    assert spectrogram.min() >= -80
    band = int(
        spectrogram.mean(axis=1).argmax()
    )  # band k is centred at (k + 1) / 81 of the mel scale up to 8 kHz
    mel = (band + 1) / 81 * 2595 * math.log10(1 + 8000 / 700)
    assert 700 * (10 ** (mel / 2595) - 1) == pytest.approx(1000, rel=0.04)


# ------------------------------------------------------------------------------------------------- all
def test_axes_that_are_given_are_drawn_into() -> None:
    _, axes = pyplot.subplots(1, 3)
    assert report.codebook([torch.tensor([2, 1])], axes[0]) is axes[0]
    assert axes[0].get_legend().get_texts()[0].get_text().startswith("codebook 1")
    assert report.curves(LOG, "rate", axes[1:])[1] is axes[2]
    assert len(pyplot.get_fignums()) == 1
    with pytest.raises(InputError, match="Expected 2 axes, but got 3"):
        report.curves(LOG, "rate", axes)


@pytest.mark.parametrize("suffix", style.SUFFIXES)
def test_the_same_figure_is_the_same_bytes(suffix: str, tmp_path: Path) -> None:
    weights = {"AP": torch.full((6,), 1 / 6)}
    for name in ("a", "b"):
        panels = report.utterance(noise(2000), CODES, weights, hop=0.02)
        report.save(panels[0].figure, tmp_path / f"{name}{suffix}")
    first, second = ((tmp_path / f"{name}{suffix}").read_bytes() for name in ("a", "b"))
    assert first == second
    assert b"Date" not in first.replace(b"/DateTime", b"")


def test_a_figure_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"x\.jpg: name a \.svg, \.pdf or \.png file"):
        report.save(pyplot.figure(), tmp_path / "x.jpg")


def test_drawing_leaves_the_users_settings_alone() -> None:
    before = dict(pyplot.rcParams)
    report.codebook([torch.tensor([2, 1])])
    assert dict(pyplot.rcParams) == before
