"""What the downstream experts share: S3PRL's interface over a corpus, a linear head and the codes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

from .. import codes
from ..corpora import Corpus, UtteranceDataset, audio, collate
from ..corpora.sampling import TrainingSampler
from ..corpora.tasks import Task
from ..errors import InputError, unknown_name
from ..files import write_text
from ..pooling import method
from . import provenance, statistics
from .board import Board, log_confusion
from .config import Section, datarc_of, workers
from .head import SuperbHead

MODELRC = ("projector_dim", "pooling", "pooling_options", "pooling_statistics")


class UtteranceExpert(SuperbHead):
    """An utterance classification expert for S3PRL's runner. Each task's expert adds what is specific to the task.

    Interface, log lines, prediction files, config keys and parameter names are those of S3PRL's own experts
    (s3prl/downstream/{speech_commands,voxceleb1,fluent_commands,emotion}/expert.py). Different on purpose: the
    training order is seeded by (seed, epoch) and shared by rank, dev is not resampled, the best score is updated
    in place (s3prl#374), files are written whole, and the random state of the process is left alone.

    Args:
        upstream_dim: size of a hidden state.
        downstream_expert: the config's section of that name, with `datarc` and `modelrc`. The class names are
            recorded in it, and so in every checkpoint: evaluating on a corpus with other classes is refused,
            and `-m inference` needs no corpus.
        expdir: experiment folder.
        mode: S3PRL's `-m`.
        seed: S3PRL's `--seed`.
        downstream_variant: S3PRL's `-v`.
        arguments: S3PRL's other arguments; where they are known, `test_provenance.json` beside
            `test_predict.txt` says which checkpoint the predictions come from.

    Raises:
        InputError: a key of `datarc` or `modelrc` that is missing or unknown, an unknown pooling or fold, `-v` and
            `datarc` that name two folds, a corpus that is not complete or not valid, or one with other classes than the
            checkpoint's.
    """

    best_score: Tensor
    #: What TensorBoard gets beside the averages, where the experiment's optimizer is known.
    board: Board | None = None
    #: Whether the confusion matrix of every evaluation is logged.
    draws = True

    #: Data of the task: corpus, folds, prediction files.
    task: Task
    #: Name of the loss in TensorBoard, as S3PRL's expert has it.
    loss_name = "loss"
    #: Splits whose predictions are written.
    predicted_splits: tuple[str, ...] = ("dev", "test")
    #: Whether an incomplete last training batch is left out.
    drop_last = False
    #: The corpus's gain in dB, applied when audio is read.
    gain_db = 0.0

    def __init__(
        self,
        upstream_dim: int,
        downstream_expert: dict[str, Any],
        expdir: str,
        mode: str = "train",
        seed: int = 0,
        downstream_variant: str | None = None,
        **arguments: Any,
    ) -> None:
        section = Section("config.downstream_expert", downstream_expert)
        modelrc = Section("config.downstream_expert.modelrc", section["modelrc"], MODELRC)
        method(str(modelrc["pooling"]))
        self.datarc = datarc_of(self.task.downstream, section["datarc"])
        known = mode == "inference" and "classes" in downstream_expert
        #: The fold that is held out for test; "" where the task has none, and where no corpus is read.
        self.fold = "" if known else self.task.fold(self.datarc, downstream_variant)
        corpus = None if known else self.task.load(self.datarc, self.fold)
        classes = _agreed_classes(downstream_expert, corpus)
        super().__init__(
            upstream_dim,
            modelrc.whole("projector_dim", most=2**16),
            sum(map(len, classes)),
            modelrc["pooling"],
            modelrc.get("pooling_options"),
        )
        self.corpus, self.classes = corpus, classes
        if corpus is not None and corpus.slots:
            downstream_expert["slots"] = list(corpus.slots)
        #: Names of the slots of a label, of the corpus or of the checkpoint; empty where a label has one.
        self.slots: tuple[str, ...] = tuple(downstream_expert.get("slots", ()))
        self.expdir, self.seed = Path(expdir), seed
        self.origin = provenance.origin(mode, arguments)
        self.statistics_path = modelrc.get("pooling_statistics")
        self._datasets: dict[str, UtteranceDataset] = {}
        self.register_buffer("best_score", torch.zeros(1))

    # ------------------------------------------------------------------------------ specific to a task
    def batch_size(self, split: str) -> int:
        """Utterances per batch of a split, from `datarc`."""
        return self.datarc.whole("train_batch_size" if split == "train" else "eval_batch_size")

    def prediction_line(self, utterance: str, names: Sequence[str]) -> str:
        """One line of a prediction file, from the utterance's id and a class name per slot."""
        return self.task.separator.join([utterance, *names])

    def max_samples(self, split: str) -> int | None:
        """Longest piece of an utterance that is read, in samples; None for all of it."""
        return None

    def preload(self) -> bool:
        """Whether the audio is read once and kept in memory."""
        return False

    def training_weights(self) -> list[float] | None:
        """Sampling weight of each training utterance, or None to take each once an epoch."""
        return None

    # --------------------------------------------------------------------------------- S3PRL's interface
    def get_dataloader(self, split: str, epoch: int = 0) -> DataLoader:
        """Batches of (wavs, labels, ids, weights); training batches in the order of (seed, epoch)."""
        dataset, batch_size = self.dataset(split), self.batch_size(split)
        loader: dict[str, Any] = {}
        if split == "train":
            loader["sampler"] = TrainingSampler(len(dataset), self.training_weights(), self.seed, epoch)
            loader["drop_last"] = self.drop_last
            if self.drop_last and len(loader["sampler"]) < batch_size:
                raise InputError(
                    f"The training set has {len(dataset)} utterances, not one batch of {batch_size} per process: "
                    "lower datarc.batch_size."
                )
        return DataLoader(
            dataset,
            batch_size=batch_size,
            num_workers=workers(self.datarc),
            collate_fn=collate,
            **loader,
        )

    def forward(
        self,
        split: str,
        features: list[Tensor],
        labels: Sequence[Sequence[int]],
        utterances: Sequence[str],
        weights: Sequence[float],
        records: dict[str, list],
        **_: Any,
    ) -> Tensor:
        """Loss of a batch (the sum over slots of the mean cross-entropy); appends to ``records``.

        Args:
            features: B tensors [T_i, D] from S3PRL's Featurizer.
            labels: a class index per slot, for each utterance.
        """
        per_slot = self._logits_per_slot(features)
        targets = torch.as_tensor(labels, device=per_slot[0].device)  # [B, slots]
        loss = torch.stack([F.cross_entropy(slot, targets[:, k]) for k, slot in enumerate(per_slot)]).sum()
        predicted = _best(per_slot)
        records[self.loss_name].append(loss.item())
        records["acc"] += (predicted == targets).all(dim=1).float().tolist()
        records["weight"] += weights
        records["filename"] += utterances
        records["predict"] += self._names(predicted)
        records["truth"] += self._names(targets)
        return loss

    def log_records(
        self, split: str, records: dict[str, list], logger: Any, global_step: int, **_: Any
    ) -> list[str]:
        """Log the averages and write the predictions; names of the checkpoints to save (dev-best.ckpt or none)."""
        accuracy = _average(records["acc"], None if split == "train" else records["weight"])
        for key, average in (("acc", accuracy), (self.loss_name, _average(records[self.loss_name]))):
            logger.add_scalar(f"{self._prefix}/{split}-{key}", average, global_step=global_step)
        if self.board and split == "train":
            self.board.log_training(logger, self._prefix, global_step)
        elif self.board and self.draws:
            self.log_confusion(split, records, logger, global_step)
        print(f"{split} acc: {accuracy}")
        lines = [f"{split} at step {global_step}: {accuracy}\n"]
        save_names = []
        if split == "dev" and accuracy > self.best_score:  # in float32, so that an equal score is no new best
            self.best_score.fill_(accuracy)
            lines.append(f"New best on {split} at step {global_step}: {accuracy}\n")
            save_names.append(f"{split}-best.ckpt")
        with open(self.expdir / "log.log", "a") as file:
            file.writelines(lines)
        if split in self.predicted_splits:
            self.write_predictions(split, records, global_step)
        return save_names

    def log_confusion(self, split: str, records: dict[str, list], logger: Any, step: int) -> None:
        """Log the confusion matrix of a split as an image, where matplotlib is there."""
        log_confusion(logger, f"{self._prefix}/{split}", step, records, self.classes)

    def write_predictions(self, split: str, records: dict[str, list], step: int) -> None:
        """Write the predicted and the true labels of a split, and which model they are of."""
        for kind in ("predict", "truth"):
            path = self._file(split, kind)
            rows = zip(records["filename"], records[kind])
            write_text(path, "".join(self.prediction_line(*row) + "\n" for row in rows))
        if self.origin:
            path = self._file(split, "predict")
            described = provenance.describe(self.origin, step, split, self.datarc, path)
            write_text(provenance.path_of(path), described)

    def load_audio(self, path: str | Path, start: int = 0, frames: int | None = None) -> Tensor:
        """One file, or a segment of it, for `-m inference`: float32 [samples] at 16 kHz."""
        return torch.from_numpy(audio.read(path, self.gain_db, start, frames))

    def probabilities(self, features: list[Tensor]) -> tuple[Tensor, ...]:
        """For each slot float64 [B, its classes], from B tensors [T_i, D]; rows sum to 1."""
        return tuple(logits.double().softmax(dim=1) for logits in self._logits_per_slot(features))

    def inference(self, features: list[Tensor], filenames: list[str]) -> None:
        """Print the label of each utterance (S3PRL's `-m inference -t FILE`)."""
        predicted = self._names(_best(self._logits_per_slot(features)))
        for filename, names in zip(filenames, predicted):
            print(self.prediction_line(filename, names))

    def prepare(self, upstream: nn.Module, featurizer: nn.Module) -> None:
        """Give the pooling its training statistics before step 1, if it needs them and has none yet.

        They come from `modelrc.pooling_statistics` or, if it is left out, from one pass over the training set, which is
        stored in the experiment folder. From then on they are part of every checkpoint.
        """
        if self.lacks_statistics:
            self.set_statistics(
                *statistics.obtain(
                    self.model.method,
                    self.model.options,
                    upstream,
                    featurizer,
                    self.dataset("train"),
                    given=self.statistics_path,
                    stored=self.expdir / "pooling_statistics.safetensors",
                )
            )

    # ---------------------------------------------------------------------------------------------- inside
    def dataset(self, split: str) -> UtteranceDataset:
        """The utterances of a split; made once, so that what is preloaded stays."""
        if self.corpus is None or split not in self.corpus.splits:
            raise unknown_name("split", split, self.corpus.splits if self.corpus else ())
        if split not in self._datasets:
            self._datasets[split] = UtteranceDataset(
                self.corpus.splits[split], self.gain_db, self.max_samples(split), self.preload()
            )
        return self._datasets[split]

    def _logits_per_slot(self, features: list[Tensor]) -> tuple[Tensor, ...]:
        """For each slot [B, its classes], from B tensors [T_i, D]."""
        frames = [len(feature) for feature in features]
        needed = self.model.method.name if self.model.method.needs_codes else None
        batch = codes.take(frames) if needed is None else codes.require(frames, needed)
        padded = pad_sequence(features, batch_first=True)
        logits = self.logits(padded, torch.tensor(frames, device=padded.device), batch)
        return logits.split([len(names) for names in self.classes], dim=1)

    def _file(self, split: str, kind: str) -> Path:
        """``test_predict.txt``, or with folds ``test_fold1_predict.txt``."""
        return self.expdir / f"{self.task.stem(split, self.fold)}_{kind}.{self.task.suffix}"

    @property
    def _prefix(self) -> str:
        """In TensorBoard: that of S3PRL's expert."""
        return "-".join(filter(None, [self.task.s3prl or self.task.name, self.fold]))

    def _names(self, indices: Tensor) -> list[tuple[str, ...]]:
        rows = indices.tolist()
        return [tuple(names[k] for names, k in zip(self.classes, row)) for row in rows]


def _best(per_slot: Sequence[Tensor]) -> Tensor:
    """Index of the highest logit in each slot, [B, slots]."""
    return torch.stack([slot.argmax(dim=1) for slot in per_slot], dim=1)


def _agreed_classes(section: dict[str, Any], corpus: Corpus | None) -> tuple[tuple[str, ...], ...]:
    """The corpus's class names, recorded in the config section; those of the checkpoint must be the same."""
    recorded = section.get("classes")
    if corpus is not None:
        found = [list(names) for names in corpus.classes]
        if recorded is not None and recorded != found:
            raise InputError(
                f"The checkpoint was trained on other classes ({_summary(recorded)}) than this corpus has "
                f"({_summary(found)}): evaluate it on the corpus it was trained on."
            )
        section["classes"] = recorded = found
    return tuple(tuple(names) for names in recorded or ())


def _summary(classes: list[list[str]]) -> str:
    return "; ".join(f"{len(names)}: {', '.join(names[:3])}, ..." for names in classes)


def _average(values: list[float], weights: list[float] | None = None) -> float:
    weights = weights or [1.0] * len(values)
    return sum(value * weight for value, weight in zip(values, weights)) / sum(weights)
