# SPDX-License-Identifier: Apache-2.0
"""K-means against scikit-learn: one step, whole fits, weights, a real photograph, real digits."""

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits, load_sample_image


def mixture(n, d, k, seed, offset=0.0, sigma=0.7):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(k, d))
    x = centres[rng.integers(0, k, n)] + sigma * rng.normal(size=(n, d)) + offset
    x = x.astype(np.float32)
    return x, x[rng.choice(n, k, replace=False)]


def oracle(x, init, max_iter, weight=None):
    """scikit-learn in double precision from the same centroids."""
    k = KMeans(len(init), init=init.astype(np.float64), n_init=1, max_iter=max_iter, tol=0,
               algorithm="lloyd")
    return k.fit(x.astype(np.float64), sample_weight=weight)


def gaps(x, centroids):
    distance = ((x[:, None].astype("f8") - centroids[None].astype("f8")) ** 2).sum(-1)
    two = np.partition(distance, 1, axis=1)[:, :2]
    return distance.argmin(1), (two[:, 1] - two[:, 0]) / two[:, 1]


@pytest.mark.parametrize("n,d,k,offset", [(2000, 16, 20, 0), (1500, 3, 9, 0), (500, 65, 30, 0),
                                          (1000, 8, 12, 1e4)])
def test_one_step(each_engine, n, d, k, offset):
    x, init = mixture(n, d, k, 1, offset)
    labels, gap = gaps(x, init)
    fit = each_engine.kmeans(x, k, init=init, max_iter=1, tol=0)
    # The update follows the initial labels: their means, wherever rounding cannot change a label.
    clear = np.array([(gap[labels == j] > 1e-5).all() and (labels == j).any() for j in range(k)])
    assert clear.sum() > k // 2
    for j in np.flatnonzero(clear):
        mean = x[labels == j].astype("f8").mean(0)
        np.testing.assert_allclose(fit.centroids[j], mean, rtol=1e-6, atol=1e-6)
    own, gap = gaps(x, np.asarray(fit.centroids))
    np.testing.assert_array_equal(np.asarray(fit.labels)[gap > 1e-5], own[gap > 1e-5])


@pytest.mark.parametrize("n,d,k,offset", [(5000, 16, 20, 0), (3000, 2, 50, 0), (800, 100, 10, 0),
                                          (2000, 4, 8, 1e4)])
def test_whole_fit(each_engine, n, d, k, offset):
    # At 10,000 centroids of f32 lie on a grid of 1/1024: clear clusters, so that rounding does not
    # lead to another local optimum than in double precision.
    x, init = mixture(n, d, k, 2, offset, 0.1 if offset else 0.7)
    fit = each_engine.kmeans(x, k, init=init, max_iter=100, tol=0)
    want = oracle(x, init, 100)
    assert fit.inertia == pytest.approx(want.inertia_, rel=1e-4)
    assert np.asarray(fit.counts).sum() == n


@pytest.mark.parametrize("n,d,k", [(5000, 16, 20), (4000, 64, 30), (3000, 2, 12)])
def test_fit_by_codes_is_nearly_as_good(engine, n, d, k):
    x, init = mixture(n, d, k, 5)
    fit = engine.kmeans(x, k, init=init, max_iter=100, tol=0, int8=True)
    assert fit.inertia == pytest.approx(oracle(x, init, 100).inertia_, rel=0.02)


def test_weights(each_engine):
    x, init = mixture(2000, 5, 7, 3)
    weight = np.random.default_rng(4).random(2000).astype(np.float32)
    fit = each_engine.kmeans(x, 7, init=init, max_iter=50, tol=0, sample_weight=weight)
    want = oracle(x, init, 50, weight.astype(np.float64))
    assert fit.inertia == pytest.approx(want.inertia_, rel=1e-4)


def test_photograph(engine):
    x = load_sample_image("china.jpg").reshape(-1, 3).astype(np.float32)
    colours = np.unique(x, axis=0)  # no two equal, so no cluster starts empty
    init = colours[:: len(colours) // 64][:64]
    fit = engine.kmeans(x, 64, init=init, max_iter=10, tol=0)
    assert fit.inertia == pytest.approx(oracle(x, init, 10).inertia_, rel=1e-4)


def test_seeding_is_as_good_as_the_peers(engine):
    x = load_digits().data.astype(np.float32)
    mine = np.median([engine.kmeans(x, 10, seed=s).inertia for s in range(9)])
    peer = np.median([KMeans(10, n_init=1, random_state=s).fit(x).inertia_ for s in range(9)])
    assert mine <= 1.02 * peer
