#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes kmeans.npz beside this file: small problems and what scikit-learn makes of them.

    python3 tests/goldens/kmeans/generate.py

For each case NAME: NAME_x f32 [n, d], NAME_init f32 [k, d], NAME_weights f32 [n] (some cases),
NAME_step_labels i32 [n] (nearest initial centroid in f64), NAME_gap f64 [n] (relative gap between the
two nearest), NAME_step_centroids f64 [k, d] (after one update), NAME_fit_inertia f64 [1] (scikit-learn
in f64, Lloyd, tol 0, at most 50 iterations). Made with numpy 2.x and scikit-learn 1.x; `versions`
holds the exact ones.
"""
import pathlib

import numpy as np
import sklearn
from sklearn.cluster import KMeans

CASES = {
    # name: n, d, k, offset, weighted
    "mixture": (300, 8, 7, 0.0, False),
    "wide": (120, 33, 9, 0.0, False),
    "offset": (200, 5, 6, 1e4, False),
    "weighted": (250, 4, 5, 0.0, True),
}


def main():
    out = {"versions": np.array(f"numpy {np.__version__}, scikit-learn {sklearn.__version__}")}
    for seed, (name, (n, d, k, offset, weighted)) in enumerate(CASES.items()):
        rng = np.random.default_rng(seed)
        centres = rng.normal(size=(k, d))
        x = (centres[rng.integers(0, k, n)] + 0.7 * rng.normal(size=(n, d)) + offset).astype("f4")
        init = x[rng.choice(n, k, replace=False)]
        w = (3 * rng.random(n)).astype("f4") if weighted else None
        distance = ((x[:, None, :].astype("f8") - init[None].astype("f8")) ** 2).sum(-1)
        ordered = np.sort(distance, axis=1)
        labels = distance.argmin(1)
        weights = np.ones(n) if w is None else w.astype("f8")
        sums = np.stack([np.bincount(labels, weights * x[:, m], k) for m in range(d)], 1)
        fit = KMeans(k, init=init.astype("f8"), n_init=1, max_iter=50, tol=0, algorithm="lloyd")
        fit.fit(x.astype("f8"), sample_weight=None if w is None else w.astype("f8"))
        out[f"{name}_x"], out[f"{name}_init"] = x, init
        if w is not None:
            out[f"{name}_weights"] = w
        out[f"{name}_step_labels"] = labels.astype("i4")
        out[f"{name}_gap"] = (ordered[:, 1] - ordered[:, 0]) / ordered[:, 1]
        out[f"{name}_step_centroids"] = sums / np.bincount(labels, weights, k)[:, None]
        out[f"{name}_fit_inertia"] = np.array([fit.inertia_])
    np.savez_compressed(pathlib.Path(__file__).with_name("kmeans.npz"), **out)


if __name__ == "__main__":
    main()
