# SPDX-License-Identifier: Apache-2.0
"""Ten Lloyd iterations from given centroids against scikit-learn."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from side_by_side import Case, Disagreement, Side

ITERATIONS = 10
SHAPES = ((10_000, 100, 10), (100_000, 128, 1024), (1_000_000, 16, 64), (273_280, 3, 64))


def mixture(n: int, d: int, k: int) -> tuple[Any, Any]:
    """Gaussians of sigma 0.7 around k standard normal centres; first centroids from the data."""
    rng = np.random.default_rng(n + d + k)
    centres = rng.standard_normal((k, d), np.float32)
    x = rng.standard_normal((n, d), np.float32)
    x *= np.float32(0.7)
    x += centres[rng.integers(0, k, n)]
    return x, x[rng.choice(n, k, replace=False)].copy()


def check(ours: Any, theirs: Any) -> str:
    gap = abs(ours.inertia - theirs.inertia_) / theirs.inertia_
    equal = float((ours.labels == theirs.labels_).mean())
    if gap > 1e-4 or equal < 0.98:
        raise Disagreement(f"inertia differs by {gap:.1e}, labels agree on {equal:.2%}")
    if ours.n_iter != theirs.n_iter_:
        raise Disagreement(f"{ours.n_iter} and {theirs.n_iter_} iterations")
    return f"{ours.n_iter} iterations, inertia within {gap:.0e}, labels agree on {equal:.3%}"


def cases(engine: Any, last_run: Any, quick: bool) -> Iterator[Case]:
    try:
        from sklearn.cluster import KMeans
        from sklearn.exceptions import ConvergenceWarning
    except ImportError:
        print("kmeans: scikit-learn is not installed; its cases are left out")
        return
    warnings.simplefilter("ignore", ConvergenceWarning)
    for n, d, k in SHAPES:
        if quick and n * d * k > 2e8:
            continue
        x, start = mixture(n, d, k)

        def ours(x: Any = x, start: Any = start, k: int = k) -> Any:
            return engine.kmeans(x, k, init=start, max_iter=ITERATIONS, tol=0)

        def theirs(x: Any = x, start: Any = start, k: int = k) -> Any:
            model = KMeans(
                k, init=start, n_init=1, max_iter=ITERATIONS, tol=0, algorithm="lloyd"
            )
            return model.fit(x)

        steps = ITERATIONS + 1  # both finish with an assignment
        yield Case(
            "kmeans",
            f"n={n} d={d} k={k}, {ITERATIONS} iterations from given centroids",
            [
                Side("switchyard", ours, who=lambda: last_run().kernel),
                Side("scikit-learn", theirs, "lloyd, tol 0, as installed"),
            ],
            check,
            bytes=float(x.nbytes) * steps,
            flops=2.0 * n * d * k * steps,
            working_set=float(x.nbytes + start.nbytes + 4 * n),
        )
