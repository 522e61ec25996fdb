# SPDX-License-Identifier: Apache-2.0
"""What the scikit-learn estimators share."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

try:
    from sklearn.base import (
        BaseEstimator,
        ClassNamePrefixFeaturesOutMixin,
        ClusterMixin,
        TransformerMixin,
    )
    from sklearn.utils.validation import (
        _check_sample_weight,
        check_array,
        check_is_fitted,
        validate_data,
    )
except ImportError as error:
    raise ImportError(
        "switchyard.KMeans and MiniBatchKMeans need scikit-learn 1.6 or newer: "
        f"pip install 'switchyard[sklearn]' ({error})"
    ) from error

from ._checks import _integer, _real
from ._engine import Engine, default_engine
from ._errors import InputError
from ._rows import inertia_of, join_equal

FLOATS = [np.float64, np.float32]
# Up to so many rows equal ones are joined before a fit, see docs/sklearn.md.
_JOINED = 1 << 13


class Base(ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClusterMixin, BaseEstimator):
    """What both estimators share. The core works in float32; float64 data are taken relative to
    their mean (`_offset`), so that a large common offset costs no precision."""

    def _engine(self) -> Engine:
        if self.engine is None:
            return default_engine()
        if not isinstance(self.engine, Engine):
            raise InputError(
                f"engine must be a switchyard.Engine or None, not {self.engine!r}",
                "invalid_argument",
            )
        return self.engine

    def _check_parameters(self) -> None:
        _integer("n_clusters", self.n_clusters, 1)
        _integer("max_iter", self.max_iter, 1)
        if _real("tol", self.tol) < 0:
            raise InputError(f"tol must be at least 0, not {self.tol!r}", "invalid_argument")
        if not (isinstance(self.n_init, str) and self.n_init == "auto"):
            _integer("n_init", self.n_init, 1)
        if isinstance(self.init, str) and self.init not in ("k-means++", "k-means||", "random"):
            raise InputError(
                "init must be 'k-means++', 'k-means||', 'random', a callable or an array, not "
                f"{self.init!r}",
                "invalid_argument",
            )

    def _data(self, x: Any, reset: bool) -> np.ndarray:
        return validate_data(
            self, x, accept_sparse=False, dtype=FLOATS, order="C", reset=reset
        )

    def _enough(self, x: np.ndarray) -> None:
        if len(x) < self.n_clusters:
            raise InputError(
                f"n_samples={len(x)} should be >= n_clusters={self.n_clusters}", "invalid_argument"
            )

    def _weights(self, sample_weight: Any, x: np.ndarray) -> np.ndarray | None:
        if sample_weight is None:
            return None
        weights = _check_sample_weight(sample_weight, x, dtype=x.dtype)
        if not (weights >= 0).all():
            raise InputError("sample_weight must not be negative", "invalid_argument")
        if not weights.any():
            raise InputError(
                "all values of sample_weight are zero; at least one must be positive",
                "invalid_argument",
            )
        return weights

    def _joined(
        self, x: np.ndarray, weights: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """The rows to fit, and their weights: few rows without repetitions; many as they are."""
        return join_equal(x, weights, self.n_clusters) if len(x) <= _JOINED else (x, weights)

    def _place(self, x: np.ndarray, weights: np.ndarray | None) -> None:
        """Decides the offset that rows are taken relative to."""
        wide = x.dtype == np.float64
        self._offset = np.average(x, axis=0, weights=weights) if wide else None

    def _narrow(self, x: np.ndarray) -> np.ndarray:
        """float32 rows as the core takes them; float32 itself is not copied."""
        offset = getattr(self, "_offset", None)
        if offset is None:
            return x if x.dtype == np.float32 else x.astype(np.float32)
        out = np.empty(x.shape, np.float32)
        np.subtract(x, offset, out=out, casting="same_kind", dtype=np.float64)
        return out

    def _widen(self, centroids: np.ndarray, dtype: Any) -> np.ndarray:
        """Centroids of the core among the caller's rows."""
        if self._offset is None:
            return np.asarray(centroids, dtype)
        return (centroids + self._offset).astype(dtype, copy=False)

    def _centroids(self) -> np.ndarray:
        return self._narrow(np.ascontiguousarray(self.cluster_centers_))

    def _starts(self, default: int) -> int:
        """Runs, or starts that are tried."""
        given = not isinstance(self.init, str) and not callable(self.init)
        if isinstance(self.n_init, str):
            return 1 if given or self.init in ("k-means++", "k-means||") else default
        if given and self.n_init != 1:
            warnings.warn(
                f"init is an array: one start is made instead of n_init={self.n_init}",
                RuntimeWarning,
                stacklevel=4,
            )
        return 1 if given else self.n_init

    def _given(self, start: Any, x: np.ndarray) -> np.ndarray:
        """First centroids of the caller's, checked, as the core takes them."""
        start = check_array(start, dtype=x.dtype, order="C")
        want = (self.n_clusters, x.shape[1])
        if start.shape != want:
            raise InputError(
                f"the initial centers have shape {start.shape}, but n_clusters and the columns of "
                f"X ask for {want}",
                "shape",
            )
        return self._narrow(start)

    def _say(self, text: str) -> None:
        if self.verbose:
            print(f"[{type(self).__name__}] {text}")

    def fit_predict(self, X: Any, y: Any = None, sample_weight: Any = None) -> np.ndarray:
        """`fit(X)`, then the labels of its rows."""
        self.fit(X, sample_weight=sample_weight)
        labels = getattr(self, "labels_", None)  # MiniBatchKMeans may have been told to make none
        return self.predict(X) if labels is None else labels

    def predict(self, X: Any) -> np.ndarray:
        """int32 [n_samples]: the nearest cluster center of each row."""
        check_is_fitted(self)
        x = self._data(X, reset=False)
        return self._engine().kmeans_assign(self._narrow(x), self._centroids())

    def fit_transform(self, X: Any, y: Any = None, sample_weight: Any = None) -> np.ndarray:
        """`fit(X)`, then `transform(X)`."""
        return self.fit(X, sample_weight=sample_weight).transform(X)

    def transform(self, X: Any) -> np.ndarray:
        """[n_samples, n_clusters] of X's dtype: distances of rows to cluster centers (computed in
        float32)."""
        check_is_fitted(self)
        x = self._data(X, reset=False)
        apart = self._engine().kmeans_transform(self._narrow(x), self._centroids())
        return apart.astype(x.dtype, copy=False)

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Minus the (weighted) sum of squared distances of rows to their cluster centers."""
        check_is_fitted(self)
        x = self._data(X, reset=False)
        weights = self._weights(sample_weight, x)
        narrow, centroids = self._narrow(x), self._centroids()
        labels = self._engine().kmeans_assign(narrow, centroids)
        return -inertia_of(narrow, centroids, labels, weights)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = False
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
