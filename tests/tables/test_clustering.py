"""Clusters, their scores and Kaldi's files, against hand-computed cases, loops, `sort` and made vectors."""

from __future__ import annotations

import os
import subprocess
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from s3prl_vqpool.errors import InputError
from s3prl_vqpool.tables.clustering import kaldi, methods
from s3prl_vqpool.tables.clustering.methods import Settings
from s3prl_vqpool.tables.clustering.scores import partition, scores, summary

CLASSES = np.repeat(np.arange(6), [30, 25, 20, 15, 12, 10])
SETTINGS = [Settings("kmeans", 6), Settings("agglomerative", 6), Settings("hdbscan")]


def blobs(seed: int = 0, dim: int = 8) -> np.ndarray:
    """A tight bundle of directions for each of `CLASSES`; lengths from 1 to 100, which must not matter."""
    generator = np.random.default_rng(seed)
    directions = np.linalg.qr(generator.standard_normal((dim, dim)))[0][:6]
    found = directions[CLASSES] + 0.02 * generator.standard_normal((len(CLASSES), dim))
    return (found * generator.uniform(1, 100, (len(CLASSES), 1))).astype(np.float32)


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda each: each.method)
def test_perfect_vectors_give_perfect_scores(settings: Settings) -> None:
    found = methods.cluster(blobs(), settings)
    assert scores(found, CLASSES) == pytest.approx(dict.fromkeys(scores(found, CLASSES), 1.0))
    np.testing.assert_array_equal(found, CLASSES)  # numbered by size, and the classes are in that order


def test_clusters_are_numbered_by_size_then_by_first_vector() -> None:
    found = methods._largest_first(np.array([7, 2, 2, -1, 5, 7, 9]))
    assert found.tolist() == [0, 1, 1, -1, 2, 0, 3]


def test_random_labels_are_no_better_than_chance() -> None:
    generator = np.random.default_rng(0)
    found = [scores(generator.integers(10, size=2000), generator.integers(10, size=2000)) for _ in range(5)]
    assert all(abs(each["ari"]) < 0.005 for each in found)
    assert all(each["nmi"] < 0.02 for each in found)


def test_scores_of_a_case_by_hand() -> None:
    # cluster 0: a a a b; cluster 1: b c; cluster 2: c c c
    found = scores([0, 0, 0, 0, 1, 1, 2, 2, 2], list("aaabbcccc"))
    assert found["purity"] == pytest.approx((3 + 1 + 3) / 9)
    assert found["coverage"] == pytest.approx((3 + 1 + 3) / 9)
    # pairs: 36; together in both 3 + 3 = 6, in clusters 6 + 1 + 3 = 10, in classes 3 + 1 + 6 = 10
    assert found["ari"] == pytest.approx((6 - 100 / 36) / (10 - 100 / 36))


@hypothesis_settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from("abcd")), min_size=1, max_size=60))
def test_purity_and_coverage_equal_a_loop(pairs: list[tuple[int, str]]) -> None:
    def majority(of: int) -> float:
        groups: dict[object, list[object]] = {}
        for pair in pairs:
            groups.setdefault(pair[of], []).append(pair[1 - of])
        return sum(Counter(each).most_common(1)[0][1] for each in groups.values()) / len(pairs)

    found = scores([k for k, _ in pairs], [c for _, c in pairs])
    assert found["purity"] == pytest.approx(majority(0))
    assert found["coverage"] == pytest.approx(majority(1))
    assert found["nmi"] == pytest.approx(found["v_measure"])


def test_noise_is_a_cluster_of_its_own_for_each() -> None:
    clusters = np.array([0, -1, 1, 0, -1])
    np.testing.assert_array_equal(partition(clusters), [0, 2, 1, 0, 3])
    assert kaldi.names(clusters) == ["cluster-1", "noise-1", "cluster-2", "cluster-1", "noise-2"]
    told = summary(clusters, ["a"] * 5)
    assert (told["clusters"], told["noise"], told["classes"]) == (2, 2, 1)
    assert told["scores"]["purity"] == 1.0
    assert told["scores"]["coverage"] == pytest.approx(2 / 5)  # together, the noise would reach 2 / 5 as well
    assert told["scores"]["ari"] == scores([0, 2, 1, 0, 3], ["a"] * 5)["ari"]


def test_hdbscan_leaves_outliers_as_noise() -> None:
    vectors = np.concatenate([blobs(), -blobs()[:1], -blobs()[40:41]])
    found = methods.cluster(vectors, Settings("hdbscan"))
    np.testing.assert_array_equal(found, [*CLASSES, -1, -1])
    few = methods.cluster(blobs(), Settings("hdbscan", least=13))
    assert few.max() == 3  # the classes of 12 and 10 are too small
    np.testing.assert_array_equal(methods.cluster(blobs()[:3], Settings("hdbscan")), [-1, -1, -1])


def test_prepared_vectors_have_length_one_and_zeros_stay() -> None:
    vectors = blobs()
    vectors[3] = 0
    before = vectors.copy()
    found = methods.prepare(vectors, Settings("hdbscan"))
    lengths = np.linalg.norm(found, axis=1)
    assert lengths[3] == 0
    np.testing.assert_allclose(np.delete(lengths, 3), 1, atol=1e-6)
    np.testing.assert_allclose(found[0], vectors[0] / np.linalg.norm(vectors[0]), atol=1e-6)
    np.testing.assert_array_equal(vectors, before)


@pytest.mark.parametrize("whiten", [False, True])
def test_components_equal_a_singular_value_decomposition(whiten: bool) -> None:
    vectors = np.random.default_rng(1).standard_normal((200, 5)) * [9, 5, 3, 2, 1] + 4
    centred = vectors - vectors.mean(axis=0)
    left, _, right = np.linalg.svd(centred, full_matrices=False)
    expected = left[:, :3] if whiten else centred @ right[:3].T
    expected = expected / np.linalg.norm(expected, axis=1, keepdims=True)
    found = methods.prepare(vectors, Settings("hdbscan", whiten=whiten, components=3))
    np.testing.assert_allclose(found @ found.T, expected @ expected.T, atol=1e-9)  # signs are free


def test_whitening_leaves_out_directions_without_variance() -> None:
    vectors = np.random.default_rng(2).standard_normal((50, 3))
    flat = np.concatenate([vectors, vectors[:, :1]], axis=1).astype(np.float32)
    assert methods.prepare(flat, Settings("hdbscan", whiten=True)).shape == (50, 3)
    with pytest.raises(InputError, match="all vectors are equal"):
        methods.prepare(np.ones((4, 3)), Settings("hdbscan", whiten=True))


def test_components_of_many_vectors_come_from_a_drawn_part(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(3)
    vectors = generator.standard_normal((4000, 4)) * [8, 4, 2, 1]
    exact = methods.prepare(vectors, Settings("hdbscan", components=2))
    monkeypatch.setattr(methods, "_FITTED", 2000)
    monkeypatch.setattr(methods, "_BLOCK", 700)
    drawn = methods.prepare(vectors, Settings("hdbscan", components=2))
    cosines = np.abs((exact * drawn)[:, 0]) + np.abs((exact * drawn)[:, 1])
    assert np.quantile(cosines, 0.1) > 0.99
    assert not np.array_equal(drawn, exact)


def test_many_vectors_take_mini_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    import sklearn.cluster

    used: list[str] = []
    for name in ("KMeans", "MiniBatchKMeans"):
        kind = getattr(sklearn.cluster, name)
        monkeypatch.setattr(
            sklearn.cluster, name, lambda *a, kind=kind, name=name, **k: used.append(name) or kind(*a, **k)
        )
    methods.cluster(blobs(), Settings("kmeans", 6))
    monkeypatch.setattr(methods, "MANY", len(CLASSES))
    assert scores(methods.cluster(blobs(), Settings("kmeans", 6)), CLASSES)["purity"] > 0.8
    assert used == ["KMeans", "MiniBatchKMeans"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (Settings("hdbscan", clusters=3), "--clusters 3: hdbscan finds the number itself"),
        (Settings("kmeans"), "--method kmeans: give the number of clusters"),
        (Settings("kmeans", 4, least=3), "--min-cluster-size 3: is of hdbscan alone"),
        (Settings("kmeans", 113), "--clusters 113: expected 1 to 112"),
        (Settings("kmeans", 0), "--clusters 0: expected 1 to 112"),
        (Settings("hdbscan", least=1), "--min-cluster-size 1: expected 2 to 112"),
        (Settings("kmeans", 2, components=9), "--pca 9: expected 1 to 8"),
    ],
)
def test_options_that_do_not_fit_are_refused(settings: Settings, said: str) -> None:
    with pytest.raises(InputError, match=said):
        methods.cluster(blobs(), settings)


def test_agglomerative_says_what_distances_would_take() -> None:
    with pytest.raises(InputError, match=r"takes up to 30,000 vectors, .* 40,000 would take 6 GB"):
        methods.check_fit(Settings("agglomerative", 9), 40_000, 64)
    methods.check_fit(Settings("agglomerative", 9), 30_000, 64)
    assert methods.cluster(blobs()[:1], Settings("agglomerative", 1)).tolist() == [0]


words = st.text(st.characters(min_codepoint=33, exclude_categories=["C", "Z"]), min_size=1, max_size=6)


@hypothesis_settings(deadline=None)
@given(st.dictionaries(words, st.integers(-1, 12), min_size=1, max_size=40), st.booleans())
def test_files_are_sorted_as_kaldi_sorts_them(found: dict[str, int], prefix: bool) -> None:
    ids, clusters = list(found), np.array(list(found.values()))
    utt2spk, spk2utt = kaldi.files(ids, kaldi.names(clusters), prefix)
    lines = [line.split(" ") for line in utt2spk.splitlines()]
    assert [line.encode() for line in utt2spk.split("\n")[:-1]] == sorted(
        line.encode() for line in utt2spk.split("\n")[:-1]
    )
    if prefix:
        assert [name for _, name in lines] == sorted(name for _, name in lines)
        assert all(utterance.startswith(f"{name}-") for utterance, name in lines)
    else:
        assert sorted(ids) == sorted(utterance for utterance, _ in lines)
    members = {line.split(" ")[0]: line.split(" ")[1:] for line in spk2utt.split("\n")[:-1]}
    assert {utterance: name for name, those in members.items() for utterance in those} == dict(lines)


@pytest.mark.parametrize("prefix", [False, True])
def test_sort_of_the_system_changes_nothing(prefix: bool) -> None:
    ids = ["a_1", "a-1", "A1", "a1", "b.é", "b.z", "a", "10", "9"]
    clusters = np.array([9, 0, 1, -1, 2, 3, 10, -1, 4])
    environment = {**os.environ, "LC_ALL": "C"}
    for text in kaldi.files(ids, kaldi.names(clusters), prefix):
        ran = subprocess.run(["sort"], input=text.encode(), env=environment, capture_output=True, check=True)
        assert ran.stdout == text.encode()
        by_key = subprocess.run(
            ["sort", "-k1,1"], input=text.encode(), env=environment, capture_output=True, check=True
        )
        assert by_key.stdout == text.encode()


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        (["a", "b", "a"], "'a' comes twice"),
        (["a b"], "'a b' is no word"),
        ([""], "is no word"),
        (["a\u00a0b"], "no word"),
    ],
)
def test_ids_that_kaldi_cannot_hold_are_refused(ids: list[str], said: str) -> None:
    with pytest.raises(InputError, match=f"v.npz: the id .*{said}"):
        kaldi.require_words(ids, "v.npz")


def test_names_have_as_many_digits_so_that_none_begins_another() -> None:
    names = kaldi.names(np.array([*range(3), *[-1] * 12]))
    assert names[:4] == ["cluster-01", "cluster-02", "cluster-03", "noise-01"]
    assert names == sorted(names)
    assert not any(a != b and b.startswith(a) for a in names for b in names)
