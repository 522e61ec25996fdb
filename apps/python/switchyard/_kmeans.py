# SPDX-License-Identifier: Apache-2.0
"""What is built on k-means: the part of Engine that is not one of its operations.

`progress` is everywhere that of Engine.kmeans."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from ._checks import _integer, _real
from ._results import KMeansResult, ProductResult, SweepEntry, SweepResult


class KMeansCalls:
    """Mixed into Engine, whose `_core` it uses."""

    _core: Any

    def kmeans_assign(self, x: Any, centroids: Any) -> Any:
        """int32 [n]: the nearest centroid of each row, the lowest number among equals."""
        return self._core.kmeans_assign(x, centroids)

    def kmeans_transform(self, x: Any, centroids: Any) -> Any:
        """float32 [n, k]: Euclidean distances of rows to centroids."""
        return self._core.kmeans_transform(x, centroids)

    def kmeans_product(
        self,
        x: Any,
        groups: int,
        k: int = 256,
        *,
        init: str = "k-means++",
        max_iter: int = 25,
        tol: float = 1e-4,
        seed: int = 0,
        progress: Callable[[float], Any] | None = None,
    ) -> ProductResult:
        """Product quantisation: k-means in each of `groups` groups of adjacent columns."""
        return ProductResult(
            *self._core.kmeans_product(
                x,
                _integer("groups", groups, 1, 2**31 - 1),
                _integer("k", k, -(2**63), 2**63 - 1),
                init,
                _integer("max_iter", max_iter),
                _real("tol", tol),
                _integer("seed", seed, 0, 2**63 - 1),
                progress,
            )
        )

    def kmeans_sweep(
        self,
        x: Any,
        ks: Any,
        *,
        init: str = "k-means++",
        max_iter: int = 300,
        tol: float = 1e-4,
        seed: int = 0,
        sample: int = 1000,
        progress: Callable[[float], Any] | None = None,
    ) -> SweepResult:
        """Fits each k of an ascending list and scores it on `sample` rows, to help choose k."""
        entries, elbow, silhouette = self._core.kmeans_sweep(
            x,
            [_integer("k", k, -(2**63), 2**63 - 1) for k in ks],
            init,
            _integer("max_iter", max_iter),
            _real("tol", tol),
            _integer("seed", seed, 0, 2**64 - 1),
            _integer("sample", sample, 0, 2**31 - 1),
            progress,
        )
        return SweepResult([SweepEntry(*e) for e in entries], elbow, silhouette)

    def kmeans_file(
        self,
        path: Any,
        k: int,
        *,
        init: Any = "k-means++",
        max_iter: int = 300,
        tol: float = 1e-4,
        seed: int = 0,
        labels: Any = "",
        memory: int = 256 << 20,
        progress: Callable[[float], Any] | None = None,
    ) -> KMeansResult:
        """Clusters the rows of a .npy file that need not fit in memory.

        The result equals that of `kmeans` on the whole array, bit for bit, from the same first
        centroids; k-means++ and k-means|| choose them among as many random rows as fit.

        Args:
            path: float32 or float16 [n, d], C order.
            labels: where to write the labels (.npy); "" for nowhere. They are not in the result.
            memory: bytes to use, about.
        """
        start = None
        if not isinstance(init, str):
            init, start = "given", init
        centroids, inertia, n_iter, counts, converged, empty, info = self._core.kmeans_file(
            os.fspath(path),
            _integer("k", k, -(2**63), 2**63 - 1),
            init,
            start,
            _integer("max_iter", max_iter),
            _real("tol", tol),
            _integer("seed", seed, 0, 2**64 - 1),
            os.fspath(labels),
            _integer("memory", memory, 1, 2**63 - 1),
            progress,
        )
        return KMeansResult(
            labels=None,
            centroids=centroids,
            inertia=inertia,
            n_iter=n_iter,
            counts=counts,
            converged=converged,
            empty_clusters=empty,
            info=info,
        )

    def kmeans_assign_file(
        self,
        path: Any,
        centroids: Any,
        labels: Any,
        *,
        memory: int = 256 << 20,
        progress: Callable[[float], Any] | None = None,
    ) -> float:
        """Writes the labels of a .npy file's rows to another, piece by piece; the inertia."""
        return self._core.kmeans_assign_file(
            os.fspath(path),
            centroids,
            os.fspath(labels),
            _integer("memory", memory, 1, 2**63 - 1),
            progress,
        )
