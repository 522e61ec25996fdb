# SPDX-License-Identifier: Apache-2.0
"""scikit-learn's colour quantisation example with one import changed.

The photograph's 273,280 pixels in float64, 64 colours: fit on 1,000 of them, predict all. Beside it fits
on all pixels, whole and in mini-batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from side_by_side import Case, Disagreement, Side

COLOURS = 64


def example(estimator: type, pixels: Any, sample: Any) -> Any:
    """The work of the example: the quantised photograph."""
    model = estimator(n_clusters=COLOURS, random_state=0).fit(sample)
    labels = model.predict(pixels)
    return model.cluster_centers_[labels]


def fitted(estimator: type, pixels: Any) -> Any:
    model = estimator(n_clusters=COLOURS, random_state=0).fit(pixels)
    return model.cluster_centers_[model.labels_]


def error(pixels: Any, quantised: Any) -> float:
    return float(np.square(pixels - quantised).sum())


def cases(engine: Any, last_run: Any, quick: bool) -> Iterator[Case]:
    try:
        import sklearn.cluster
        from sklearn.datasets import load_sample_image
        from sklearn.utils import shuffle

        import switchyard.sklearn as ours
    except ImportError as missing:
        print(f"dropin: {missing}; its cases are left out")
        return
    pixels = np.asarray(load_sample_image("china.jpg"), np.float64).reshape(-1, 3) / 255
    if quick:
        pixels = pixels[::20].copy()
    sample = shuffle(pixels, random_state=0, n_samples=1000)

    def check(mine: Any, peers: Any) -> str:
        ratio = error(pixels, mine) / error(pixels, peers)
        if ratio > 1.05:
            raise Disagreement(f"the error is {ratio:.3f} times as large")
        return f"squared error {ratio:.4f} times scikit-learn's"

    def with_engine(kind: type) -> Callable[..., Any]:
        return lambda **parameters: kind(engine=engine, **parameters)

    def case(name: str, kind: str, work: Callable[..., Any], *data: Any) -> Case:
        mine, peer = with_engine(getattr(ours, kind)), getattr(sklearn.cluster, kind)
        return Case(
            "dropin",
            f"{name}, {len(pixels)} pixels in float64, {COLOURS} colours",
            [
                Side("switchyard", lambda: work(mine, *data), who=lambda: last_run().kernel),
                Side("scikit-learn", lambda: work(peer, *data), f"sklearn.cluster.{kind}"),
            ],
            check,
            bytes=float(pixels.nbytes),
            flops=0.0,
            working_set=2.0 * pixels.nbytes,
        )

    yield case(
        "the example: KMeans fit on 1,000, predict all",
        "KMeans",
        lambda estimator: example(estimator, pixels, sample),
    )
    yield case("KMeans fit on all", "KMeans", fitted, pixels)
    yield case("MiniBatchKMeans fit on all", "MiniBatchKMeans", fitted, pixels)
