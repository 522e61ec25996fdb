# SPDX-License-Identifier: Apache-2.0
"""What calls return."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from . import _core
from ._core import Quantized as Quantized


class RunInfo(NamedTuple):
    """Who answered a call.

    `backend` is an instance such as "avx512"; `kernel` its kernel; `requested_backend` the pin or
    ""; `verified` one of "gate", "cached" and "no"; `fallback_reason` "" when the chosen kernel
    answered; `time_ms` the wall time of the whole operation; `reused` whether the result cache
    answered with a copy of an earlier result.
    """

    backend: str
    kernel: str
    requested_backend: str
    verified: str
    fallback_reason: str
    time_ms: float
    reused: bool


def remember(fields: tuple) -> RunInfo:
    """Makes this the calling thread's latest run."""
    _core.remember(*fields)
    return RunInfo(*fields)


def last_run() -> RunInfo | None:
    """Who answered the calling thread's latest successful call (None: no call yet)."""
    return _core.last_run()


@dataclass(frozen=True, eq=False)
class KMeansResult:
    """A k-means fit.

    Attributes:
        labels: int32 [n], the nearest centroid of each row.
        centroids: float32 [k, d].
        inertia: sum of squared distances to the own centroid, weighted where weights were given.
        n_iter: centroid updates of the best run.
        counts: int64 [k], rows per cluster.
        converged: stopped before `max_iter`.
        empty_clusters: clusters that ended without rows and kept their old centre.
        info: who answered (RunInfo).
        closest_rows: int64 [k], the row nearest to each centroid (-1: none); None unless asked for.
    """

    labels: Any
    centroids: Any
    inertia: float
    n_iter: int
    counts: Any
    converged: bool
    empty_clusters: int
    info: RunInfo
    closest_rows: Any = None


@dataclass(frozen=True, eq=False)
class ProductResult:
    """Product quantisation: a codebook for each group of adjacent columns.

    Attributes:
        codebooks: float32 [groups, k, d / groups].
        codes: uint8 [n, groups] where k <= 256, else int32.
        inertia: the squared error of decoding.
        info: who answered for the first group (RunInfo).
    """

    codebooks: Any
    codes: Any
    inertia: float
    info: RunInfo

    def decode(self, codes: Any = None) -> Any:
        """The rows that codes (default: all) stand for, float32 [n, d]; NumPy only."""
        codes = self.codes if codes is None else codes
        parts = [book[codes[:, g]] for g, book in enumerate(self.codebooks)]
        return np.concatenate(parts, axis=1)


class SweepEntry(NamedTuple):
    """One k: inertia, mean silhouette of the sampled rows (-1..1; 0 for k = 1), iterations."""

    k: int
    inertia: float
    silhouette: float
    n_iter: int


@dataclass(frozen=True, eq=False)
class SweepResult:
    """Fits for several k.

    Attributes:
        entries: a SweepEntry for each k.
        elbow_k: where the inertia lies farthest below the line from the first to the last.
        silhouette_k: the k of the largest silhouette.
    """

    entries: list[SweepEntry]
    elbow_k: int
    silhouette_k: int
