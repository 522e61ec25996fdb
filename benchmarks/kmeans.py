# SPDX-License-Identifier: Apache-2.0
"""K-means against scikit-learn, scikit-learn-intelex (oneDAL), FAISS and NumPy: ten Lloyd iterations
from given centroids, and whole fits of a photograph and of sentence embeddings."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from kmeans_data import embeddings, mixture, photograph
from side_by_side import Case, Disagreement, Side

ITERATIONS = 10
SHAPES = (
    (10_000, 100, 10),
    (10_000, 768, 100),
    (100_000, 128, 1024),
    (200_000, 64, 256),
    (1_000_000, 16, 64),
    (1_000_000, 2, 1000),
)
SEEDS = 20
NUMPY_WORK = 1.5e9  # rows x dimensions x clusters: beyond, its turns would take too long


def peers(x: Any, start: Any, k: int, iterations: int) -> list[tuple[str, Callable[[], Any], str]]:
    """Those that are installed, as (name, fit, note); fits have inertia_ and n_iter_."""
    found: list[tuple[str, Callable[[], Any], str]] = []
    settings = {"n_init": 1, "max_iter": iterations, "tol": 0, "algorithm": "lloyd"}
    from sklearn.cluster import KMeans

    found.append(
        ("scikit-learn", lambda: KMeans(k, init=start, **settings).fit(x), "lloyd, tol 0")
    )
    try:
        from sklearnex.cluster import KMeans as Intelex

        found.append(
            ("oneDAL", lambda: Intelex(k, init=start, **settings).fit(x), "scikit-learn-intelex")
        )
    except ImportError:
        pass
    try:
        import faiss

        def fit() -> Any:
            model = faiss.Kmeans(
                x.shape[1],
                k,
                niter=iterations,
                max_points_per_centroid=2**31 - 1,
                min_points_per_centroid=1,
            )
            model.train(x, init_centroids=start)
            return model

        found.append(("FAISS", fit, f"niter {iterations}, all points, no final assignment"))
    except ImportError:
        pass
    if len(x) * x.shape[1] * k <= NUMPY_WORK:
        found.append(("numpy", lambda: NumpyLloyd(x, start, iterations), "products by its BLAS"))
    return found


class NumpyLloyd:
    """As a user writes it; rows in pieces, so that the distances stay in cache."""

    PIECE = 8192

    def __init__(self, x: Any, start: Any, iterations: int) -> None:
        centres = start.copy()
        for self.n_iter_ in range(1, iterations + 1):
            labels, _ = self._assign(x, centres)
            counts = np.bincount(labels, minlength=len(centres))
            sums = np.zeros_like(centres, np.float64)
            np.add.at(sums, labels, x)
            filled = counts > 0
            centres[filled] = sums[filled] / counts[filled, None]
        _, self.inertia_ = self._assign(x, centres)

    def _assign(self, x: Any, centres: Any) -> tuple[Any, float]:
        norms = (centres * centres).sum(1)
        labels, inertia = np.empty(len(x), np.int64), 0.0
        for begin in range(0, len(x), self.PIECE):
            part = x[begin : begin + self.PIECE]
            far = norms - 2 * (part @ centres.T)
            nearest = labels[begin : begin + self.PIECE] = far.argmin(1)
            inertia += float(far[np.arange(len(part)), nearest].sum() + (part * part).sum())
        return labels, inertia


def check(ours: Any, theirs: Any, bound: float = 1e-4) -> str:
    if not hasattr(theirs, "inertia_"):  # FAISS splits empty clusters: another result
        return "its own rule for empty clusters"
    gap = abs(ours.inertia - theirs.inertia_) / theirs.inertia_
    if gap > (bound if ours.n_iter == theirs.n_iter_ else 10 * bound):
        raise Disagreement(f"inertia differs by {gap:.1e}")
    note = "" if ours.n_iter == theirs.n_iter_ else f", but {theirs.n_iter_} there"
    return f"{ours.n_iter} iterations{note}, inertia within {gap:.0e}"


def check_tied(ours: Any, theirs: Any) -> str:
    """Of data on a grid: many rows lie exactly between two centroids, everybody's rounding sends
    them elsewhere, and from there the fits go different ways, in f64 too."""
    return check(ours, theirs, 5e-3)


def lloyd(
    engine: Any, last_run: Any, name: str, x: Any, start: Any, compare: Callable = check
) -> Case:
    n, d = x.shape
    k = len(start)
    sides = [
        Side(
            "switchyard",
            lambda: engine.kmeans(x, k, init=start, max_iter=ITERATIONS, tol=0),
            who=lambda: last_run().kernel,
        )
    ]
    sides += [Side(who, fit, note) for who, fit, note in peers(x, start, k, ITERATIONS)]
    steps = ITERATIONS + 1  # all but FAISS finish with an assignment
    return Case(
        "kmeans",
        f"{name} n={n} d={d} k={k}, {ITERATIONS} iterations from given centroids".strip(),
        sides,
        compare,
        bytes=float(x.nbytes) * steps,
        flops=2.0 * n * d * k * steps,
        working_set=float(x.nbytes + start.nbytes + 4 * n),
    )


class Fits:
    """Several whole fits as one result: their mean inertia."""

    def __init__(self, inertias: list[float]) -> None:
        self.inertia_ = self.inertia = float(np.mean(inertias))


def whole(engine: Any, last_run: Any, name: str, x: Any, k: int, seeds: int) -> Case:
    from sklearn.cluster import KMeans

    def compare(ours: Fits, theirs: Fits) -> str:
        ratio = ours.inertia / theirs.inertia_
        if ratio > 1.02:
            raise Disagreement(f"mean inertia is {ratio:.4f} times as large")
        return f"mean inertia {ratio:.4f} times theirs over {seeds} seeds"

    def peer(estimator: Any) -> Callable[[], Fits]:
        return lambda: Fits(
            [estimator(k, n_init=1, random_state=s).fit(x).inertia_ for s in range(seeds)]
        )

    sides = [
        Side(
            "switchyard",
            lambda: Fits([engine.kmeans(x, k, seed=s).inertia for s in range(seeds)]),
            who=lambda: last_run().kernel,
        ),
        Side("scikit-learn", peer(KMeans), "k-means++, tol 1e-4"),
    ]
    try:
        from sklearnex.cluster import KMeans as Intelex

        sides.append(Side("oneDAL", peer(Intelex), "k-means++, tol 1e-4"))
    except ImportError:
        pass
    return Case(
        "kmeans",
        f"{name} n={len(x)} d={x.shape[1]} k={k}, {seeds} whole fits from k-means++",
        sides,
        compare,
        bytes=float(x.nbytes) * seeds,
        flops=0.0,
        working_set=float(x.nbytes),
    )


def cases(engine: Any, last_run: Any, quick: bool) -> Iterator[Case]:
    try:
        from sklearn.exceptions import ConvergenceWarning
    except ImportError:
        print("kmeans: scikit-learn is not installed; its cases are left out")
        return
    warnings.simplefilter("ignore", ConvergenceWarning)
    for n, d, k in SHAPES:
        if quick and n * d * k > 2e8:
            continue
        x, start = mixture(n, d, k)
        yield lloyd(engine, last_run, "", x, start)
    pixels = photograph()
    if pixels is not None:
        if quick:
            pixels = pixels[::50].copy()
        start = pixels[np.random.default_rng(1).choice(len(pixels), 64, replace=False)].copy()
        yield lloyd(engine, last_run, "photograph", pixels, start, check_tied)
        yield whole(engine, last_run, "photograph", pixels, 64, 2 if quick else SEEDS)
    if not quick:
        sentences = embeddings(20_000)
        if sentences is not None:
            yield whole(engine, last_run, "MiniLM embeddings", sentences, 256, 1)
