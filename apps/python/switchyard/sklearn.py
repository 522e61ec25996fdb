# SPDX-License-Identifier: Apache-2.0
"""k-means with scikit-learn's interface: change one import and keep the code.

    from switchyard.sklearn import KMeans, MiniBatchKMeans      # or switchyard.KMeans

Parameters, attributes and methods are those of the estimators of these names in scikit-learn, which must be
installed (`pip install switchyard[sklearn]`). What differs is told in docs/sklearn.md.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from ._sklearn_base import Base  # says what is missing without scikit-learn
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state

from ._checks import _integer, _real
from ._engine import Engine
from ._errors import InputError
from ._rows import inertia_of, sums_by_label

__all__ = ["KMeans", "MiniBatchKMeans"]


class KMeans(Base):
    """Lloyd's k-means with scikit-learn's interface, computed by Switchyard.

    The same seed gives the same bits on every backend and for every number of threads.

    Args:
        n_clusters: clusters to form, 1 <= n_clusters <= n_samples.
        init: "k-means++" (greedy), "k-means||", "random", an array [n_clusters, n_features], or a
            callable(X, n_clusters, random_state) that returns one.
        n_init: runs from different starts, the lowest inertia wins; "auto": 10 for "random" and
            callables, else 1.
        max_iter: most iterations of a run.
        tol: stop when the centers' squared movement is at most tol times the mean variance.
        verbose: above 0 prints a line for each fit.
        random_state: int, RandomState or None.
        copy_x: accepted for compatibility; X is never changed.
        algorithm: "lloyd" or "elkan": both name the same exact iterations here.
        int8: iterate with labels from 8-bit codes: another, coarser result; the last labels and the
            inertia are exact.
        engine: a switchyard.Engine; None for one that all estimators of the process share.

    Attributes:
        cluster_centers_: [n_clusters, n_features] of X's dtype.
        labels_: int32 [n_samples].
        inertia_: (weighted) sum of squared distances to the own center.
        n_iter_: iterations of the best run.
        n_features_in_, feature_names_in_: as everywhere in scikit-learn.

    Raises:
        ValueError: parameters out of range, NaN or infinities, fewer rows than clusters.
        TypeError: sparse input, which is not supported.
    """

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        init: Any = "k-means++",
        n_init: Any = "auto",
        max_iter: int = 300,
        tol: float = 1e-4,
        verbose: int = 0,
        random_state: Any = None,
        copy_x: bool = True,
        algorithm: str = "lloyd",
        int8: bool = False,
        engine: Engine | None = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.init = init
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol
        self.verbose = verbose
        self.random_state = random_state
        self.copy_x = copy_x
        self.algorithm = algorithm
        self.int8 = int8
        self.engine = engine

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> KMeans:
        """Finds the cluster centers of X [n_samples, n_features]; y is ignored.

        Ctrl-C ends a fit within a moment.
        """
        self._check_parameters()
        if self.algorithm not in ("lloyd", "elkan"):
            raise InputError(
                f"algorithm must be 'lloyd' or 'elkan', not {self.algorithm!r}", "invalid_argument"
            )
        x = self._data(X, reset=True)
        self._enough(x)
        weights = self._weights(sample_weight, x)
        rows, row_weights = self._joined(x, weights)
        self._place(rows, row_weights)
        narrow = self._narrow(rows)
        random = check_random_state(self.random_state)
        best = self._best_run(narrow, rows, row_weights, random)
        self.cluster_centers_ = self._widen(best.centroids, x.dtype)
        self._n_features_out = self.n_clusters
        if rows is x:
            self.labels_ = best.labels
        else:
            self.labels_ = self._engine().kmeans_assign(self._narrow(x), best.centroids)
        self.inertia_ = best.inertia
        self.n_iter_ = best.n_iter
        self._say(f"inertia {self.inertia_:.9g} after {self.n_iter_} iterations")
        self._warn_of_fewer_clusters()
        return self

    def _best_run(self, narrow: np.ndarray, rows: Any, weights: Any, random: Any) -> Any:
        runs = self._starts(default=10)
        common = dict(max_iter=self.max_iter, tol=self.tol, int8=self.int8)
        if weights is not None:
            common["sample_weight"] = weights.astype(np.float32)
        engine = self._engine()
        if isinstance(self.init, str):
            seed = int(random.randint(np.iinfo(np.int32).max))
            return engine.kmeans(
                narrow, self.n_clusters, init=self.init, n_init=runs, seed=seed, **common
            )
        best = None
        for _ in range(runs):
            start = self.init
            if callable(start):
                start = start(rows, self.n_clusters, random_state=random)
            fit = engine.kmeans(
                narrow, self.n_clusters, init=self._given(start, rows), **common
            )
            if best is None or fit.inertia < best.inertia:
                best = fit
        return best

    def _warn_of_fewer_clusters(self) -> None:
        found = len(np.unique(self.labels_))
        if found < self.n_clusters:
            warnings.warn(
                f"{found} distinct clusters were found, fewer than n_clusters={self.n_clusters}: "
                "X may hold many equal rows",
                ConvergenceWarning,
                stacklevel=3,
            )


class MiniBatchKMeans(Base):
    """Mini-batch k-means with scikit-learn's interface, distances computed by Switchyard.

    Args:
        n_clusters, init, verbose, random_state, engine: as for KMeans.
        max_iter: most passes over the data.
        batch_size: rows of a batch, drawn with replacement, by weight where weights are given.
        compute_labels: assign all rows and compute the inertia at the end of a fit.
        tol: above 0, stop when the centers' squared movement of a step is at most tol times the
            mean variance.
        max_no_improvement: stop after so many steps in a row without a lower smoothed inertia;
            None never does.
        init_size: rows that a start is found on; None: 3 batches, or 3 * n_clusters if that is more.
        n_init: starts that are tried, the one of the lowest inertia on a sample is taken; "auto": 3
            for "random" and callables, else 1.
        reassignment_ratio: from time to time, centers with less than this share of the largest
            center's weight are moved to random rows of the batch; 0 never does.

    Attributes:
        cluster_centers_, labels_, inertia_, n_features_in_: as for KMeans (without compute_labels,
            inertia_ is estimated from the batches, and there are no labels_).
        n_iter_: passes over the data, n_steps_: batches.

    Raises:
        As KMeans.
    """

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        init: Any = "k-means++",
        max_iter: int = 100,
        batch_size: int = 1024,
        verbose: int = 0,
        compute_labels: bool = True,
        random_state: Any = None,
        tol: float = 0.0,
        max_no_improvement: int | None = 10,
        init_size: int | None = None,
        n_init: Any = "auto",
        reassignment_ratio: float = 0.01,
        engine: Engine | None = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.init = init
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.verbose = verbose
        self.compute_labels = compute_labels
        self.random_state = random_state
        self.tol = tol
        self.max_no_improvement = max_no_improvement
        self.init_size = init_size
        self.n_init = n_init
        self.reassignment_ratio = reassignment_ratio
        self.engine = engine

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> MiniBatchKMeans:
        """Finds the cluster centers of X [n_samples, n_features]; y is ignored."""
        self._check_batch_parameters()
        x = self._data(X, reset=True)
        self._enough(x)
        weights = self._weights(sample_weight, x)
        rows, row_weights = self._joined(x, weights)
        self._place(rows, row_weights)
        random = check_random_state(self.random_state)
        batch_size = min(self.batch_size, len(rows))
        self._begin(rows, row_weights, random, batch_size)
        self._iterate(rows, row_weights, random, batch_size)
        self._n_features_out = self.n_clusters
        if self.compute_labels:
            self._label(x, weights)
        else:
            self.__dict__.pop("labels_", None)  # of an earlier fit
            self.inertia_ = self._smoothed * (len(x) if weights is None else float(weights.sum()))
        return self

    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> MiniBatchKMeans:
        """One step with X as the batch; the first one also finds a start in it."""
        self._check_batch_parameters()
        begun = hasattr(self, "cluster_centers_")
        x = self._data(X, reset=not begun)
        weights = self._weights(sample_weight, x)
        if not begun:
            self._enough(x)
            self._place(x, weights)
            self._random = check_random_state(self.random_state)
            self._begin(x, weights, self._random, len(x))
            self.n_steps_ = 0
            self._n_features_out = self.n_clusters
        if not hasattr(self, "_random"):  # fitted as a whole before
            self._random = check_random_state(self.random_state)
        self._step(self._narrow(x), weights, self._random)
        self.n_steps_ += 1
        if self.compute_labels:
            self._label(x, weights)
        return self

    def _check_batch_parameters(self) -> None:
        self._check_parameters()
        _integer("batch_size", self.batch_size, 1)
        if self.init_size is not None:
            _integer("init_size", self.init_size, 1)
        if self.max_no_improvement is not None:
            _integer("max_no_improvement", self.max_no_improvement, 0)
        if not _real("reassignment_ratio", self.reassignment_ratio) >= 0:
            raise InputError(
                f"reassignment_ratio must be at least 0, not {self.reassignment_ratio!r}",
                "invalid_argument",
            )

    def _label(self, x: np.ndarray, weights: np.ndarray | None) -> None:
        narrow, centroids = self._narrow(x), self._centroids()
        self.labels_ = self._engine().kmeans_assign(narrow, centroids)
        self.inertia_ = inertia_of(narrow, centroids, self.labels_, weights)

    def _begin(self, rows: Any, weights: Any, random: Any, batch_size: int) -> None:
        """Centers to start from: the best of n_init on a sample."""
        size = self.init_size
        if size is None:
            size = 3 * batch_size
            if size < self.n_clusters:
                size = 3 * self.n_clusters
        elif size < self.n_clusters:
            warnings.warn(
                f"init_size={size} is below n_clusters={self.n_clusters}: "
                f"{3 * self.n_clusters} rows are taken",
                RuntimeWarning,
                stacklevel=3,
            )
            size = 3 * self.n_clusters
        size = min(size, len(rows))
        starts, best = self._starts(default=3), None
        held = random.randint(0, len(rows), size) if starts > 1 else None
        for _ in range(starts):
            start = self._start(rows, weights, random, size)
            inertia = 0.0
            if held is not None:
                sample = self._narrow(rows[held])
                labels = self._engine().kmeans_assign(sample, start)
                held_weights = None if weights is None else weights[held]
                inertia = inertia_of(sample, start, labels, held_weights)
                self._say(f"a start with inertia {inertia:.9g} on {size} rows")
            if best is None or inertia < best[0]:
                best = inertia, start
        self._weight_sums = np.zeros(self.n_clusters)
        self._rows_since_reassigning = 0
        self.cluster_centers_ = self._widen(best[1], rows.dtype)

    def _start(self, rows: Any, weights: Any, random: Any, size: int) -> np.ndarray:
        if not isinstance(self.init, str):
            start = self.init
            if callable(start):
                start = start(rows, self.n_clusters, random_state=random)
            return self._given(start, rows)
        if size < len(rows):
            chosen = random.randint(0, len(rows), size)
            rows = rows[chosen]
            weights = None if weights is None else weights[chosen]
            if weights is not None and not weights.any():
                weights = None  # nothing but rows of no weight were drawn
        fit = self._engine().kmeans(
            self._narrow(rows),
            self.n_clusters,
            init=self.init,
            max_iter=1,
            seed=int(random.randint(np.iinfo(np.int32).max)),
            sample_weight=None if weights is None else weights.astype(np.float32),
        )
        return fit.centroids

    def _iterate(self, rows: Any, weights: Any, random: Any, batch_size: int) -> None:
        chances = None if weights is None else np.cumsum(weights, dtype=np.float64)
        limit = 0.0
        if self.tol > 0:
            limit = self.tol * float(np.mean(np.var(rows, axis=0, dtype=np.float64)))
        steps = max(1, self.max_iter * len(rows) // batch_size)
        share = min(1.0, 2.0 * batch_size / (len(rows) + 1))
        smoothed = lowest = None
        without = 0
        for step in range(1, steps + 1):
            if chances is None:
                drawn = random.randint(0, len(rows), batch_size)
            else:
                at = random.random_sample(batch_size) * chances[-1]
                drawn = np.searchsorted(chances, at, side="right")
            before = self.cluster_centers_
            mean = self._step(self._narrow(rows[drawn]), None, random) / batch_size
            if smoothed is None:
                smoothed = mean  # of the start, not of a step
            else:
                smoothed += (mean - smoothed) * share
            moved = 0.0
            if limit > 0:
                moved = float(np.sum((self.cluster_centers_ - before) ** 2, dtype=np.float64))
                if step > 1 and moved <= limit:
                    self._say(f"the centers moved by {moved:.3g} in step {step}: converged")
                    break
            if step == 1:
                continue
            if lowest is None or smoothed < lowest:
                lowest, without = smoothed, 0
                continue
            without += 1
            if self.max_no_improvement is not None and without >= self.max_no_improvement:
                self._say(f"no improvement in {without} steps up to {step}: converged")
                break
        self._smoothed = float(smoothed)
        self.n_steps_ = step
        self.n_iter_ = -(-step * batch_size // len(rows))

    def _step(self, batch: np.ndarray, weights: Any, random: Any) -> float:
        """Moves the centers to the means of all rows seen so far; the batch's inertia before."""
        dtype = self.cluster_centers_.dtype
        centroids = self._centroids()
        labels = self._engine().kmeans_assign(batch, centroids)
        inertia = inertia_of(batch, centroids, labels, weights)
        sums, counts = sums_by_label(batch, labels, weights, self.n_clusters)
        seen = self._weight_sums + counts
        hit = counts > 0
        moved = centroids.astype(np.float64)
        moved[hit] += (sums[hit] - counts[hit, None] * moved[hit]) / seen[hit, None]
        self._weight_sums = seen
        self._reassign(batch, moved, random)
        self.cluster_centers_ = self._widen(moved, dtype)
        return inertia

    def _reassign(self, batch: np.ndarray, centroids: np.ndarray, random: Any) -> None:
        """Moves centers that hardly any rows chose, every ten rows per cluster."""
        self._rows_since_reassigning += len(batch)
        sums = self._weight_sums
        due = self._rows_since_reassigning >= 10 * self.n_clusters
        if self.reassignment_ratio == 0 or not (due or (sums == 0).any()):
            return
        self._rows_since_reassigning = 0
        poor = np.flatnonzero(sums < self.reassignment_ratio * sums.max())
        most = len(batch) // 2  # the rest must not be spoilt by outliers
        poor = poor[np.argsort(sums[poor], kind="stable")][:most]
        if len(poor) == 0:
            return
        self._say(f"{len(poor)} centers are moved to rows of the batch")
        centroids[poor] = batch[random.choice(len(batch), len(poor), replace=False)]
        kept = np.ones(len(sums), bool)
        kept[poor] = False
        sums[poor] = sums[kept].min()  # not at once again
