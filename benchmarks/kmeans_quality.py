#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How good k-means' results are, beside scikit-learn's.

    python benchmarks/kmeans_quality.py [--seeds N] [--threads N] [--quick]

1. From the same first centroids, to convergence: the gap between the two inertias.
2. From k-means++ of each side, over N seeds (20): mean inertias and their ratio, on the digits, a
   photograph and sentence embeddings (those that are at hand).

Ends with status 1 where a gap exceeds 1e-4, or a mean is worse by more than its standard error.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
import warnings
from typing import Any

import machine


def same_start(engine: Any, name: str, x: Any, start: Any, iterations: int) -> bool:
    """scikit-learn in double precision, so that it is the better one of the two."""
    import numpy as np
    from sklearn.cluster import KMeans

    ours = engine.kmeans(x, len(start), init=start, max_iter=iterations, tol=0)
    coarse = engine.kmeans(x, len(start), init=start, max_iter=iterations, tol=0, int8=True)
    theirs = KMeans(
        len(start), init=start.astype(np.float64), n_init=1, max_iter=iterations, tol=0
    ).fit(x.astype(np.float64))
    gap = ours.inertia / theirs.inertia_ - 1
    print(
        f"{name}: n={len(x)} d={x.shape[1]} k={len(start)}, {ours.n_iter} iterations, {theirs.n_iter_} "
        f"there: inertia {ours.inertia:.9g} and {theirs.inertia_:.9g}, gap {gap:+.1e}; int8 "
        f"{coarse.inertia / theirs.inertia_ - 1:+.1e}",
        flush=True,
    )
    return gap <= 1e-4


def many_seeds(engine: Any, name: str, x: Any, k: int, seeds: int) -> bool:
    import numpy as np
    from sklearn.cluster import KMeans

    begin = time.perf_counter()
    ours = np.array([engine.kmeans(x, k, seed=s).inertia for s in range(seeds)])
    middle = time.perf_counter()
    theirs = np.array([KMeans(k, n_init=1, random_state=s).fit(x).inertia_ for s in range(seeds)])
    took = middle - begin, time.perf_counter() - middle
    ratio = ours.mean() / theirs.mean()
    noise = np.hypot(ours.std(), theirs.std()) / np.sqrt(max(seeds - 1, 1)) / theirs.mean()
    print(
        f"{name}: n={len(x)} d={x.shape[1]} k={k}, {seeds} seeds: mean inertia {ours.mean():.7g}, "
        f"{theirs.mean():.7g} there: ratio {ratio:.5f} (standard error {noise:.5f}); best "
        f"{ours.min():.7g} and {theirs.min():.7g}; {took[0]:.2f} s and {took[1]:.2f} s",
        flush=True,
    )
    return ratio <= 1 + noise


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2, help="of both sides (2)")
    parser.add_argument("--quick", action="store_true", help="digits and small mixtures only")
    options = parser.parse_args()
    machine.use_threads(options.threads)
    sy = importlib.import_module("run").module()
    try:
        from sklearn.datasets import load_digits
        from sklearn.exceptions import ConvergenceWarning
    except ImportError:
        print("kmeans_quality: scikit-learn is not installed (benchmarks/requirements.txt)")
        return 2
    import numpy as np
    from kmeans_data import embeddings, mixture, photograph

    warnings.simplefilter("ignore", ConvergenceWarning)
    engine = sy.Engine(threads=options.threads, cache_dir="")
    good = True
    digits = load_digits().data.astype(np.float32)
    data = [("digits", digits, 10)]
    mixtures = [(5_000, 16, 20), (3_000, 2, 50), (800, 100, 10)]
    if not options.quick:
        mixtures += [(100_000, 16, 64), (20_000, 128, 256)]
        for name, x, k in (
            ("photograph", photograph(), 64),
            ("MiniLM sentence embeddings", embeddings(20_000), 256),
        ):
            if x is None:
                print(f"{name}: not at hand, left out")
            else:
                data.append((name, x, k))
    for size in mixtures:
        good = same_start(engine, "mixture", *mixture(*size), 300) and good
    for name, x, k in data:
        if name != "photograph":  # rows on a grid tie, and ties lead elsewhere
            rows = np.random.default_rng(1).choice(len(x), k, replace=False)
            good = same_start(engine, name, x, x[rows].copy(), 300) and good
    for name, x, k in data:
        good = many_seeds(engine, name, x, k, options.seeds) and good
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
