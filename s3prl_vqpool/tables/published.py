"""Published figures: arXiv 2304.03940, Tables 1 and 2.

On the corpora of SUPERB (KS: all 35 words of Speech Commands v2), so they compare with figures of those alone. The
published VQ-Squash-OR and VQ-AllSquash-OR do not do what the paper's Figure 1 says; VQ-Squash-OR@code is what the
former does.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from ..corpora.tasks import registered


@dataclass(frozen=True)
class Printed:
    """A row of the paper: test accuracy in % by its column, and their mean as it was printed."""

    accuracy: Mapping[str, float]
    average: float

    def of(self, columns: Collection[str]) -> dict[str, float]:
        """The accuracy of those of our ``columns`` that the paper has."""
        return {ours: self.accuracy[theirs] for ours, theirs in paper_columns().items() if ours in columns}


#: upstream -> pooling -> row
Figures = Mapping[str, Mapping[str, Printed]]


def paper_columns() -> dict[str, str]:
    """Our column -> the paper's, for each task that the paper has."""
    return {task.column: task.published for task in registered() if task.published}


def are_the_papers(columns: Collection[str]) -> bool:
    """Whether these are exactly the tasks that the paper averages over."""
    return set(columns) == set(paper_columns())


def _row(kws: float, sid: float, ic: float, er: float, average: float) -> Printed:
    return Printed({"KWS": kws, "SID": sid, "IC": ic, "ER": er}, average)


#: Rows of wav2vec 2.0 base and large, and XLS-R 0.3B.
TABLE1: Figures = {
    "base": {
        "AP": _row(58.44, 13.85, 26.71, 53.44, 38.11),
        "SP": _row(68.43, 15.63, 33.11, 53.30, 42.62),
        "Whitening": _row(60.55, 15.13, 36.59, 50.88, 40.79),
        "SoftDecay": _row(58.66, 13.66, 26.71, 53.44, 38.12),
        "VQ-Squash-AND": _row(58.46, 14.82, 26.97, 52.76, 38.26),
        "VQ-Squash-OR": _row(55.83, 14.12, 24.97, 52.00, 36.73),
        "VQ-AllSquash-AND": _row(65.16, 14.80, 32.96, 53.50, 41.60),
        "VQ-AllSquash-OR": _row(65.92, 12.99, 37.81, 52.61, 42.33),
        "VQ-SIF": _row(59.62, 13.33, 36.54, 54.28, 40.94),
        "VQ-LP": _row(74.48, 15.53, 48.11, 55.48, 48.40),
        "VQ-GP": _row(67.98, 12.91, 41.55, 54.11, 44.14),
        "VQ-BP": _row(73.48, 12.94, 50.99, 55.13, 48.14),
    },
    "large": {
        "AP": _row(71.87, 17.62, 29.95, 54.37, 43.45),
        "SP": _row(77.09, 19.15, 36.91, 56.77, 47.48),
        "Whitening": _row(67.44, 18.75, 36.75, 55.45, 44.60),
        "SoftDecay": _row(72.02, 17.37, 30.21, 54.37, 43.49),
        "VQ-Squash-AND": _row(70.21, 17.05, 31.43, 54.12, 43.20),
        "VQ-Squash-OR": _row(66.31, 17.40, 29.21, 54.27, 41.80),
        "VQ-AllSquash-AND": _row(76.75, 18.77, 39.12, 55.34, 47.50),
        "VQ-AllSquash-OR": _row(75.75, 16.64, 41.76, 56.04, 47.55),
        "VQ-SIF": _row(73.09, 17.60, 32.64, 54.59, 44.48),
        "VQ-LP": _row(83.07, 19.42, 55.00, 57.29, 53.69),
        "VQ-GP": _row(76.57, 15.89, 51.86, 55.28, 49.90),
        "VQ-BP": _row(81.00, 14.71, 58.53, 54.28, 52.13),
    },
    "XLS-R": {
        "AP": _row(68.42, 11.62, 26.13, 55.33, 40.38),
        "SP": _row(77.26, 13.42, 36.70, 56.54, 45.98),
        "Whitening": _row(60.72, 15.22, 30.11, 50.69, 39.18),
        "SoftDecay": _row(68.35, 12.02, 26.13, 55.33, 40.46),
        "VQ-Squash-AND": _row(70.80, 12.06, 34.27, 55.35, 43.12),
        "VQ-Squash-OR": _row(73.31, 12.46, 41.79, 55.55, 45.78),
        "VQ-AllSquash-AND": _row(75.97, 12.82, 44.53, 56.72, 47.51),
        "VQ-AllSquash-OR": _row(75.37, 12.02, 40.36, 55.12, 45.72),
        "VQ-SIF": _row(80.45, 11.89, 46.08, 57.46, 48.97),
        "VQ-LP": _row(82.38, 12.71, 49.14, 58.84, 50.77),
        "VQ-GP": _row(82.87, 12.00, 52.49, 57.74, 51.27),
        "VQ-BP": _row(86.30, 11.71, 52.89, 57.60, 52.12),
    },
}

#: As `TABLE1`: one linear layer on frozen features. The paper prints SAP's KS, IC and ER for SP of base as well; the
#: average beside them, 79.18, is not of these cells, whose mean is 78.23.
TABLE2: Figures = {
    "base": {
        "AP": _row(94.89, 65.36, 91.88, 62.59, 78.68),
        "SP": _row(95.15, 64.72, 97.39, 55.66, 79.18),
        "VQ-LP": _row(95.49, 64.82, 95.70, 62.73, 79.69),
        "SAP": _row(95.15, 40.86, 97.39, 55.66, 72.27),
        "ASP": _row(95.70, 36.52, 97.47, 59.34, 72.26),
        "VAP": _row(96.74, 68.50, 99.50, 65.50, 82.56),
    },
    "large": {
        "AP": _row(96.05, 79.23, 95.07, 65.47, 83.96),
        "SP": _row(96.23, 77.71, 96.73, 67.02, 84.42),
        "VQ-LP": _row(96.32, 78.12, 97.76, 66.58, 84.70),
        "SAP": _row(96.26, 58.48, 96.78, 57.78, 77.33),
        "ASP": _row(96.42, 46.36, 98.55, 61.94, 75.82),
        "VAP": _row(97.14, 77.08, 99.58, 67.42, 85.30),
    },
    "XLS-R": {
        "AP": _row(97.32, 67.85, 91.30, 71.77, 82.06),
        "SP": _row(97.51, 60.89, 94.12, 72.07, 81.15),
        "VQ-LP": _row(97.59, 68.13, 94.38, 70.67, 82.69),
        "SAP": _row(97.63, 61.73, 98.86, 64.83, 80.76),
        "ASP": _row(96.69, 13.48, 99.02, 61.08, 67.57),
        "VAP": _row(97.49, 61.71, 99.63, 71.15, 82.49),
    },
}

#: Our upstream -> the paper's name of it.
UPSTREAMS = {"wav2vec2_vq": "base", "wav2vec2_large_960_vq": "large", "xls_r_300m_vq": "XLS-R"}
