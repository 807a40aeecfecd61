"""kmeans_vq over S3PRL's upstreams, fitting with `vqpool kmeans`, codebook.yaml."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import s3prl_vqpool  # noqa: F401 (S3PRL's own modules import after it on every stack)

# isort: split
import numpy as np
import pytest
import s3prl.util.download
import soundfile
import torch
import yaml
from brute_force import LENGTHS, brute_force
from s3prl import hub
from s3prl.upstream.interfaces import Featurizer
from s3prl.upstream.kmeans_vq import hubconf
from sklearn.cluster import MiniBatchKMeans
from tiny import LARGE, converted_checkpoint, waves

from s3prl_vqpool import cli, pooling
from s3prl_vqpool.checkpoints import fairseq
from s3prl_vqpool.codes import kmeans_fit
from s3prl_vqpool.codes.kmeans import KMeansCodebooks
from s3prl_vqpool.codes.plain import plain_upstream
from s3prl_vqpool.errors import InputError


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """The models are tiny: more threads only wait for one another."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of twelve files of noise in bands, 0.5 to 1.6 s."""
    folder = tmp_path_factory.mktemp("speech")
    for i in range(12):
        samples = np.convolve(waves(8000 + 1537 * i, seed=i)[0].numpy(), np.ones(1 + i) / (1 + i), "same")
        soundfile.write(folder / f"{i}.{('wav', 'flac')[i % 2]}", samples, 16000)
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return converted_checkpoint(tmp_path_factory.mktemp("tiny") / "tiny.pt", LARGE)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory, speech: Path, checkpoint: Path) -> Path:
    """Codebooks on layers 1 and 3 of a tiny wav2vec 2.0, two of 12 entries on each."""
    out = tmp_path_factory.mktemp("fitted") / "codebook.yaml"
    assert fit(speech, out, "wav2vec2_local", checkpoint) == 0
    return out


def fit(speech: Path, out: Path, upstream: str, checkpoint: Path, *more: str) -> int:
    options = ["--output", str(out), "-u", upstream, "--checkpoint", str(checkpoint), "-l", "1", "3"]
    return cli.main(
        ["kmeans", str(speech), *options, "--entries", "12", "--groups", "2", "--frames", "240", *more]
    )


def test_kmeans_vq_hidden_states_equal_s3prls_and_codes_are_the_nearest(
    fitted: Path, checkpoint: Path
) -> None:
    plain = hub.wav2vec2_local(ckpt=str(checkpoint)).eval()
    ours = hub.kmeans_vq(ckpt=None, refresh=False, model_config=str(fitted)).eval()
    wavs = waves(*LENGTHS)
    with torch.no_grad():
        expected, found = plain(wavs), ours(wavs)
    assert set(found) == {*expected, "codes", "code_lengths"}
    for mine, theirs in zip(found["hidden_states"], expected["hidden_states"], strict=True):
        assert torch.equal(mine, theirs)
    assert found["code_lengths"].tolist() == [(n - 400) // 320 + 1 for n in LENGTHS]
    for b, length in enumerate(found["code_lengths"].tolist()):
        nearest = brute_force(
            fitted.with_suffix(".safetensors"), [state[b, :length] for state in expected["hidden_states"]]
        )
        assert torch.equal(found["codes"][b, :length], nearest)
        assert (found["codes"][b, length:] == -1).all()
    assert ours.codebook_sizes == (12, 12, 12, 12)
    assert len(found["codes"].unique()) > 8
    assert ours.get_downsample_rates("hidden_states") == 320


def test_fit_writes_two_whole_files_and_the_same_for_the_same_seed(
    tmp_path: Path, speech: Path, checkpoint: Path, fitted: Path
) -> None:
    centroids = {}
    for seed in ("0", "1"):
        out = tmp_path / seed / "codebook.yaml"
        out.parent.mkdir()
        assert fit(speech, out, "wav2vec2_local", checkpoint, "--seed", seed) == 0
        assert {path.name for path in out.parent.iterdir()} == {"codebook.yaml", "codebook.safetensors"}
        centroids[seed] = KMeansCodebooks.load(out.with_suffix(".safetensors"))
    first = KMeansCodebooks.load(fitted.with_suffix(".safetensors"))
    for again, other, entries in zip(centroids["0"].centroids, centroids["1"].centroids, first.centroids):
        torch.testing.assert_close(again, entries)
        assert not torch.allclose(other, entries)
    assert first.identity["upstream"] == "wav2vec2_local"
    assert (first.identity["files"], first.identity["frames"], first.identity["seed"]) == ("12", "240", "0")
    assert (first.layers, first.columns) == ((1, 1, 3, 3), ((0, 24), (24, 48)) * 2)


def test_fitted_centroids_are_near_the_means_of_their_frames() -> None:
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(5, 6)).astype(np.float32) * 10
    labels = generator.integers(0, 5, 4000)
    frames = centres[labels] + generator.normal(size=(4000, 6)).astype(np.float32)
    books, distances = kmeans_fit.fit([frames], [2], 5, 1, 0, {})
    (found,) = books.centroids
    means = np.stack([frames[labels == i].mean(axis=0) for i in range(5)])
    gaps = np.linalg.norm(found.numpy()[:, None] - means[None], axis=-1)
    assert sorted(gaps.argmin(axis=1)) == [0, 1, 2, 3, 4]
    assert gaps.min(axis=1).max() < 0.3
    assert distances[0] == pytest.approx(6, rel=0.1)  # the variance of six columns


def test_fit_is_scikit_learns_on_each_range_of_columns() -> None:
    """Nine thousand frames: more than a batch of 8192, so that the batches count."""
    frames = [np.random.default_rng(seed).normal(size=(9000, 4)).astype(np.float32) for seed in (0, 1)]
    books, distances = kmeans_fit.fit(frames, [1, 5], 3, 2, 7, {"a": "b"})
    assert (books.layers, books.columns, books.identity) == ((1, 1, 5, 5), ((0, 2), (2, 4)) * 2, {"a": "b"})
    parts = [states[:, columns] for states in frames for columns in (slice(0, 2), slice(2, 4))]
    for found, distance, part in zip(books.centroids, distances, parts, strict=True):
        model = MiniBatchKMeans(3, batch_size=8192, n_init=3, random_state=7).fit(np.ascontiguousarray(part))
        np.testing.assert_allclose(found, model.cluster_centers_, rtol=1e-6)
        nearest = np.square(part[:, None] - model.cluster_centers_).sum(axis=2).min(axis=1)
        assert distance == pytest.approx(nearest.mean(), rel=1e-4)
    for refused in ((9001, 1), (3, 3)):
        with pytest.raises(InputError):
            kmeans_fit.fit(frames[:1], [1], *refused, 7, {})
    assert kmeans_fit.fit([frames[0][:3]], [1], 3, 1, 7, {})[1] == pytest.approx([0])


def test_long_files_are_read_up_to_thirty_seconds(tmp_path: Path) -> None:
    """From each file the same number of frames, without repetition; of a long one those of its beginning."""

    class Counts(Padded):
        def forward(self, wavs: list[torch.Tensor]) -> dict[str, Any]:
            return {"hidden_states": [torch.arange(len(wavs[0]) // 100).float().view(1, -1, 1)]}

    for name, seconds in (("long", 31), ("thirty", 30), ("short", 29)):
        soundfile.write(tmp_path / f"{name}.wav", np.zeros(seconds * 16_000), 16_000, subtype="PCM_U8")
    for name, frames in (("long", 4800), ("thirty", 4800), ("short", 4640)):
        (found,) = kmeans_fit.sample_frames(Counts(), [tmp_path / f"{name}.wav"], [0], 10**6, seed=0)
        assert sorted(found[:, 0].tolist()) == list(range(frames))
    files = sorted(tmp_path.iterdir())
    (found,) = kmeans_fit.sample_frames(
        Counts(), files, [0], 100, seed=0
    )  # 34 of each file, and two are left out
    assert found.shape == (100, 1)
    assert 99 <= len(kmeans_fit.sample_frames(Counts(), files, [0], 99, seed=0)[0]) <= 99
    with pytest.raises(InputError, match=r"-l 1: this upstream has the layers 0 to 0\."):
        kmeans_fit.sample_frames(Counts(), files, [0, 1], 100, seed=0)


def test_sampled_frames_are_the_same_frames_of_every_layer(speech: Path, checkpoint: Path) -> None:
    upstream = plain_upstream("wav2vec2_local", str(checkpoint)).eval()
    files = kmeans_fit.audio_files(speech)
    both = kmeans_fit.sample_frames(upstream, files, (1, 3), 200, seed=3)
    alone = kmeans_fit.sample_frames(upstream, files, (3,), 200, seed=3)
    assert both[1].shape == (200, 48)
    np.testing.assert_array_equal(both[1], alone[0])
    with torch.no_grad():
        states = [
            upstream([torch.from_numpy(soundfile.read(file, dtype="float32")[0])])["hidden_states"]
            for file in files
        ]
    first = torch.cat([state[1][0] for state in states]).numpy()
    second = torch.cat([state[3][0] for state in states]).numpy()
    for row, partner in zip(both[0][:20], both[1][:20]):
        place = np.abs(first - row).sum(axis=1).argmin()
        np.testing.assert_array_equal(first[place], row)
        np.testing.assert_array_equal(second[place], partner)


@pytest.mark.parametrize(
    ("name", "window", "hop"), [("mfcc", 400, 160), ("fbank", 400, 160), ("wav2vec2_local", 400, 320)]
)
def test_geometry_is_found_by_trying(name: str, window: int, hop: int, checkpoint: Path) -> None:
    given = str(checkpoint) if name == "wav2vec2_local" else None
    assert kmeans_fit.geometry(plain_upstream(name, given).eval()) == (window, hop)


class Padded(torch.nn.Module):
    """An upstream that centres its frames: one at each multiple of 100 samples."""

    def get_downsample_rates(self, key: str) -> int:
        return 100

    def forward(self, wavs: list[torch.Tensor]) -> dict[str, Any]:
        return {"hidden_states": [torch.zeros(1, len(wavs[0]) // 100 + 1, 3)]}


def test_geometry_of_padding_upstreams_and_of_lawless_ones() -> None:
    assert kmeans_fit.geometry(Padded()) == (0, 100)
    lawless = Padded()
    lawless.get_downsample_rates = lambda key: 90  # type: ignore[method-assign]
    with pytest.raises(InputError, match="codes cannot be matched to its frames"):
        kmeans_fit.geometry(lawless)
    for wrong in (12_345, 24_001, 7 * 100 + 9_600):  # a frame more, at one length alone

        class Odd(Padded):
            def forward(self, wavs: list[torch.Tensor], wrong: int = wrong) -> dict[str, Any]:
                return {
                    "hidden_states": [torch.zeros(1, len(wavs[0]) // 100 + 1 + (len(wavs[0]) == wrong), 3)]
                }

        with pytest.raises(InputError, match=f"{wrong} samples give"):
            kmeans_fit.geometry(Odd())


def test_columns_of_the_codebooks_are_those_of_the_layer() -> None:
    kmeans_fit.require_columns(Padded(), 0, 3, Path("a.bin"))
    with pytest.raises(InputError, match=r"^-l 1: this upstream has the layers 0 to 0\.$"):
        kmeans_fit.require_columns(Padded(), 1, 3, Path("a.bin"))
    for columns in (2, 4):
        with pytest.raises(
            InputError, match=rf"^a\.bin: its entries have {columns} columns, but layer 0 .* has 3"
        ):
            kmeans_fit.require_columns(Padded(), 0, columns, Path("a.bin"))


# ----------------------------------------------------------------------------------- S3PRL's preprocessed features
@pytest.fixture(scope="module", params=["mel", "linear"])
def centred(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, speech: Path) -> Path:
    """Codebooks on features whose module holds noise of its own, and whose frames are centred."""
    out = tmp_path_factory.mktemp("centred") / "codebook.yaml"
    options = ["--output", str(out), "-u", request.param, "-l", "0", "--entries", "12", "--frames", "240"]
    assert cli.main(["kmeans", str(speech), *options]) == 0
    return out


def test_codebooks_are_known_again_beside_noise_that_is_no_weight(centred: Path) -> None:
    one, again = (hub.kmeans_vq(model_config=str(centred)).eval() for _ in range(2))
    noise = [model.state_dict()["upstream.extracter._pseudo_wavs"] for model in (one, again)]
    assert not torch.equal(*noise)
    assert one.identity() == again.identity()
    one.upstream.extracter._window[0] += 1
    assert one.identity() != again.identity()


def test_selection_weighs_only_frames_that_s3prl_keeps(centred: Path) -> None:
    """16,000 samples have 101 centred frames, of which the Featurizer keeps 100."""
    ours, wavs = hub.kmeans_vq(model_config=str(centred)).eval(), waves(16000, 12345)
    with torch.no_grad():
        pooled = [frames.mean(dim=0) for frames in Featurizer(ours, "vq_lp", "cpu")(wavs, ours(wavs))]
        plain = ours(wavs)
    assert plain["code_lengths"].tolist() == [101, 78]
    for b, kept in enumerate((100, 77)):
        codes, frames = plain["codes"][b : b + 1, :kept], plain["hidden_states"][0][b, :kept]
        weights = pooling.weights("VQ-LP", codes, torch.tensor([kept]))
        torch.testing.assert_close(pooled[b], weights[0] @ frames, rtol=1e-4, atol=1e-5)


# ------------------------------------------------------------------------------------------------- shipped ones
def test_fbank_vq_codes_are_the_nearest_of_three_codebooks() -> None:
    plain, ours, wavs = hub.fbank().eval(), hub.fbank_vq().eval(), waves(*LENGTHS)
    with torch.no_grad():
        expected, found = plain(wavs), ours(wavs)
    assert torch.equal(found["hidden_states"][0], expected["hidden_states"][0])
    assert found["code_lengths"].tolist() == [(n - 400) // 160 + 1 for n in LENGTHS]
    shipped = Path(hubconf.__file__).with_name("fbank.safetensors")
    for b, length in enumerate(found["code_lengths"].tolist()):
        nearest = brute_force(shipped, [expected["hidden_states"][0][b, :length]])
        assert torch.equal(found["codes"][b, :length], nearest)
    assert ours.codebook_sizes == (32, 32, 32)
    assert shipped.stat().st_size < 40_000


@pytest.mark.parametrize("name", ["mfcc_vq", "fbank_vq"])
def test_kaldi_features_promise_that_batches_change_nothing(name: str) -> None:
    ours, wavs = getattr(hub, name)().eval(), waves(*LENGTHS)
    padding = ours.without_padding()
    assert padding is not None
    with padding:
        batch = ours(wavs)
    for b, wav in enumerate(wavs):
        alone = ours([wav])
        length = alone["codes"].size(1)
        assert torch.equal(batch["codes"][b, :length], alone["codes"][0])
        assert torch.equal(batch["hidden_states"][0][b, :length], alone["hidden_states"][0][0])


def test_other_wrapped_upstreams_promise_nothing_about_padding(fitted: Path) -> None:
    assert hub.kmeans_vq(model_config=str(fitted)).without_padding() is None


def test_shipped_codebooks_are_known_by_their_files_without_layers() -> None:
    shipped = KMeansCodebooks.load(Path(hubconf.__file__).with_name("mfcc.safetensors"))
    assert (shipped.layers, shipped.columns) == ((), ((0, 13), (13, 39)))


# ---------------------------------------------------------------------------------------------------- the yaml
def changed(fitted: Path, folder: Path, **changes: Any) -> Path:
    """A copy of a codebook.yaml with other entries; None removes one."""
    content = yaml.safe_load(fitted.read_text()) | {"codebooks": str(fitted.with_suffix(".safetensors"))}
    path = folder / "changed.yaml"
    path.write_text(yaml.safe_dump({k: v for k, v in (content | changes).items() if v is not None}))
    return path


def test_training_counts_come_by_the_key_statistics(tmp_path: Path, fitted: Path) -> None:
    ours, wavs = hub.kmeans_vq(model_config=str(fitted)).eval(), waves(16000, 12345)
    found = ours(wavs)
    with pytest.raises(InputError, match="needs training statistics"):
        found["vq_gp"]
    counts = pooling.counts(found["codes"], found["code_lengths"], ours.codebook_sizes)
    counts.save(tmp_path / "counts.safetensors", ours.identity())
    path = changed(fitted, tmp_path, statistics="counts.safetensors")
    again = hub.kmeans_vq(model_config=str(path)).eval()(wavs)
    weights = pooling.weights("VQ-GP", found["codes"], found["code_lengths"], counts=counts)
    kept = 49  # S3PRL would keep 50 frames of 16000 samples, but there are no more
    expected = found["hidden_states"][2][0] * weights[0, :, None] * kept
    torch.testing.assert_close(again["vq_gp"][2][0], expected)


def test_shorthands_take_only_their_family(tmp_path: Path, fitted: Path) -> None:
    for name in ("hubert_vq", "wavlm_vq", "data2vec_vq", "kmeans_vq"):
        with pytest.raises(InputError, match=rf"{name} needs codebooks: -g codebook\.yaml"):
            getattr(hub, name)()
    with pytest.raises(InputError, match="holds codebooks on wav2vec2_local, which is no hubert"):
        hub.hubert_vq(model_config=str(fitted))


def test_checkpoint_can_be_given_and_must_be_that_of_the_codebooks(
    tmp_path: Path, fitted: Path, checkpoint: Path
) -> None:
    moved = checkpoint.with_name("moved.pt")
    moved.write_bytes(checkpoint.read_bytes())
    ours = hub.kmeans_vq(ckpt=str(moved), model_config=str(changed(fitted, tmp_path, checkpoint="gone.pt")))
    assert ours.identity() == hub.kmeans_vq(model_config=str(fitted)).identity()
    other = converted_checkpoint(tmp_path / "other.pt", LARGE, seed=1)
    with pytest.raises(InputError, match="fitted on other weights of wav2vec2_local"):
        hub.kmeans_vq(ckpt=str(other), model_config=str(fitted))


def test_checkpoint_that_s3prl_would_evaluate_is_refused_unrun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fitted: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(s3prl.util.download, "_download_dir", tmp_path / "cache")
    code = "__import__('os').system('touch CANARY')"
    for name, content in (
        ("hubert.pt", {"task_cfg": {}, "model_cfg": {"conv_feature_layers": code}, "model_weight": {}}),
        ("wavlm.pt", {"cfg": {"conv_feature_layers": code}, "model": {}}),
        ("fairseq.pt", {"cfg": {"model": {"conv_feature_layers": code}}, "model": {}}),
        ("distiller.ckpt", {"Config": {"distiller": {"extractor_conv_feature_layers": code}}}),
        ("long.pt", {"model_cfg": {"conv_feature_layers": "[(8, 10, 5)]" + " " * 2000 + f"+ {code}"}}),
        ("multires.pt", {"model_cfg": {"override_encoder_layers": f"[2, {code}]"}}),
        ("attention.pt", {"cfg": {"model": [{"encoder": {"xformers_att_config": code}}]}}),
    ):
        torch.save(content, name)
        with pytest.raises(InputError, match=r"refused, \w*(layers|att_config) is"):
            hub.kmeans_vq(ckpt=name, model_config=str(changed(fitted, tmp_path, upstream="hubert_local")))
        with pytest.raises(InputError, match=r"refused, \w*(layers|att_config) is"):
            plain_upstream("hubert_url", (tmp_path / name).as_uri())
    assert not Path("CANARY").exists()
    torch.save({"cfg": {"override_encoder_layers": "[2, 2, 4]", "xformers_att_config": None}}, "plain.pt")
    fairseq.check("plain.pt")


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"upstream": "wav2vec2_lokal"}, "Did you mean .*wav2vec2_local"),
        ({"upstream": "__builtins__"}, "Unknown upstream of S3PRL"),
        ({"upstream": "_urls_to_filepaths"}, "Unknown upstream of S3PRL"),
        ({"upstream": None}, "it lacks upstream"),
        ({"hop": 0}, "wrong values for hop"),
        ({"window": "400"}, "wrong values for window"),
        ({"windw": 400}, "unknown keys windw"),
        ({"codebooks": "none.safetensors"}, "no such file of k-means codebooks"),
        ({"checkpoint": "none.pt"}, "none.pt cannot be loaded"),
        ({"statistics": "none.safetensors"}, "none.safetensors"),
    ],
)
def test_wrong_entries_are_one_line(
    tmp_path: Path, fitted: Path, changes: dict[str, Any], problem: str
) -> None:
    with pytest.raises(InputError, match=problem) as refusal:
        hub.kmeans_vq(model_config=str(changed(fitted, tmp_path, **changes)))
    assert len(str(refusal.value).splitlines()) == 1


@pytest.mark.parametrize(
    "text", ["", "[1]", "a: [", "!!python/object/apply:os.system ['touch CANARY']", "\0"]
)
def test_other_files_are_no_codebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("codebook.yaml").write_text(text)
    with pytest.raises(InputError, match=r"^codebook\.yaml: not a codebook\.yaml") as refusal:
        hub.kmeans_vq(model_config="codebook.yaml")
    assert len(str(refusal.value).splitlines()) == 1
    assert not Path("CANARY").exists()


def test_codebooks_of_another_upstream_say_so(tmp_path: Path, fitted: Path) -> None:
    books = KMeansCodebooks.load(fitted.with_suffix(".safetensors"))
    foreign = KMeansCodebooks(books.centroids, books.columns, {}, books.layers)
    foreign.save(tmp_path / "foreign.safetensors")
    path = changed(fitted, tmp_path, codebooks="foreign.safetensors", upstream="mfcc", checkpoint=None)
    with pytest.raises(
        InputError, match="need columns 0 to 24 of layer 1, but the upstream gives 1 layers of 39"
    ):
        hub.kmeans_vq(model_config=str(path))(waves(16000))


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--entries", "241"], "there are only 240 frames"),
        (["--groups", "5"], "48 columns do not split"),
        (["-l", "4"], "has the layers 0 to 3"),
        (["--entries", "0"], "are at least 1"),
        (["--device", "abacus"], "--device abacus: torch knows no such device."),
        (["--output", "none/codebook.yaml"], "in a folder that exists"),
        (["--output", "codebook.json"], "name a .yaml file"),
        (["-u", "hubert_lokal"], "Unknown upstream of S3PRL 'hubert_lokal'. Did you mean"),
        (["--checkpoint", "none.pt"], "none.pt cannot be loaded"),
    ],
)
def test_fit_mistakes_are_one_line_and_leave_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, speech: Path, checkpoint: Path, capfd: Any,
    options: list[str], problem: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert fit(speech, Path("codebook.yaml"), "wav2vec2_local", checkpoint, *options) == 2
    lines = capfd.readouterr().err.splitlines()
    assert problem in lines[-1]
    assert lines[-1].startswith("error: ")
    assert list(tmp_path.iterdir()) == []


def test_fit_of_a_folder_without_audio_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    options = ["--output", str(tmp_path / "a.yaml"), "-u", "mfcc", "-l", "0", "--entries", "4"]
    assert cli.main(["kmeans", str(tmp_path), *options]) == 2
    assert "no .wav, .flac, .ogg files in it" in capsys.readouterr().err
