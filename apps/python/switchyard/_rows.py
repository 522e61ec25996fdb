# SPDX-License-Identifier: Apache-2.0
"""Sums over rows for the scikit-learn estimators, in NumPy."""

from __future__ import annotations

import numpy as np

_CHUNK = 1 << 16  # rows at a time, so that temporaries stay small


def inertia_of(
    x: np.ndarray, centroids: np.ndarray, labels: np.ndarray, weights: np.ndarray | None
) -> float:
    """Sum of squared distances of float32 rows to their centroids, in double precision."""
    total = 0.0
    for begin in range(0, len(x), _CHUNK):
        part = slice(begin, begin + _CHUNK)
        apart = x[part].astype(np.float64)
        apart -= centroids[labels[part]]
        squares = np.einsum("ij,ij->i", apart, apart)
        total += float(squares.sum() if weights is None else squares @ weights[part])
    return total


def sums_by_label(
    x: np.ndarray, labels: np.ndarray, weights: np.ndarray | None, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """(weighted) sums [k, d] and sums of weights [k] of the rows of each label, float64."""
    counts = np.bincount(labels, weights, k).astype(np.float64)
    order = np.argsort(labels, kind="stable")
    rows = x[order].astype(np.float64)
    if weights is not None:
        rows *= weights[order, None]
    sums = np.zeros((k, x.shape[1]))
    sorted_labels = labels[order]
    first = np.flatnonzero(np.diff(sorted_labels, prepend=-1))
    if len(first):
        sums[sorted_labels[first]] = np.add.reduceat(rows, first, axis=0)
    return sums, counts


def join_equal(
    x: np.ndarray, weights: np.ndarray | None, at_least: int
) -> tuple[np.ndarray, np.ndarray | None]:
    """The distinct rows of x that weigh something, in an order that depends on nothing but their
    values, and their total weights (None where all are 1). x itself, with its weights, where fewer
    than `at_least` would be left."""
    bits = np.ascontiguousarray(x + 0.0).view(f"V{x.itemsize * x.shape[1]}").ravel()  # -0 is 0
    _, first, group = np.unique(bits, return_index=True, return_inverse=True)
    total = np.bincount(group.ravel(), weights, len(first))
    kept = total > 0
    if np.count_nonzero(kept) < at_least:
        return x, weights
    total = total[kept]
    return x[first[kept]], None if (total == 1).all() else total
