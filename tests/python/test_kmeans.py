# SPDX-License-Identifier: Apache-2.0
import os
import signal
import threading

import numpy as np
import pytest

import switchyard as sy


@pytest.fixture()
def blobs(rng):
    """Four groups far apart; the right answer is obvious."""
    centres = np.array([[0, 0, 0], [20, 0, 0], [0, 20, 0], [0, 0, 20]], np.float32)
    truth = rng.integers(0, 4, 1000)
    return centres[truth] + rng.standard_normal((1000, 3)).astype(np.float32), truth


def test_finds_the_groups(engine, blobs):
    x, truth = blobs
    fit = engine.kmeans(x, 4, n_init=4)
    assert fit.labels.dtype == np.int32 and fit.labels.shape == (1000,)
    assert fit.centroids.dtype == np.float32 and fit.centroids.shape == (4, 3)
    assert fit.counts.dtype == np.int64
    assert (fit.counts == np.bincount(fit.labels, minlength=4)).all()
    assert fit.converged is True and isinstance(fit.n_iter, int) and 1 <= fit.n_iter <= 300
    assert fit.empty_clusters == 0
    pairs = {(int(a), int(b)) for a, b in zip(fit.labels, truth)}
    assert len(pairs) == 4
    for j in range(4):
        np.testing.assert_allclose(fit.centroids[j], x[fit.labels == j].mean(0), atol=1e-4)
    d = ((x - fit.centroids[fit.labels]).astype(np.float64) ** 2).sum()
    assert abs(fit.inertia - d) <= 1e-5 * d


def test_one_iteration_from_given_centroids(engine, rng):
    x = rng.standard_normal((500, 7), np.float32)
    start = x[:9].copy()
    fit = engine.kmeans(x, 9, init=start, max_iter=1, tol=0)
    assert fit.n_iter == 1
    first = ((x[:, None].astype(np.float64) - start) ** 2).sum(-1).argmin(1)
    for j in range(9):
        np.testing.assert_allclose(fit.centroids[j], x[first == j].mean(0), rtol=1e-5, atol=1e-6)
    nearest = ((x[:, None].astype(np.float64) - fit.centroids) ** 2).sum(-1).argmin(1)
    assert (fit.labels == nearest).mean() > 0.998


def test_equal_bits_for_equal_seeds_and_thread_counts(rng):
    x = rng.standard_normal((3000, 5), np.float32)
    fits = [
        sy.Engine(threads=threads, cache_dir="").kmeans(x, 7, seed=11, n_init=2)
        for threads in (1, 2, 2)
    ]
    for fit in fits[1:]:
        assert (fit.labels == fits[0].labels).all()
        assert fit.centroids.tobytes() == fits[0].centroids.tobytes()
        assert (fit.inertia, fit.n_iter) == (fits[0].inertia, fits[0].n_iter)


def codes(values, largest):
    """The 8-bit codes of switchyard/ops/kmeans.h."""
    rate = 127 / np.float64(largest)
    return np.clip(np.rint(values.astype(np.float64) * rate), -127, 127).astype(np.int64)


def fit_by_codes(x, centroids, iterations):
    """What int8=True computes, as NumPy says it; empty clusters are not provided for."""
    largest = np.abs(x).max()
    rows, before = codes(x, largest), None
    for done in range(1, iterations + 1):
        centres = codes(centroids, largest)
        labels = ((centres * centres).sum(1) - 2 * rows @ centres.T).argmin(1)
        counts = np.bincount(labels, minlength=len(centroids))
        assert counts.min() > 0
        # Rows lie on a grid: their sums are exact.
        sums = np.zeros(centroids.shape, np.float64)
        np.add.at(sums, labels, x.astype(np.float64))
        centroids = (sums / counts[:, None]).astype(np.float32)
        if before is not None and (labels == before).all():
            break
        before = labels
    return centroids, done


@pytest.mark.parametrize("shape", [(3000, 5, 7), (1500, 33, 20), (900, 1, 4), (2500, 64, 30)])
@pytest.mark.parametrize("threads", [1, 2])
def test_int8_is_what_numpy_says(rng, shape, threads):
    n, d, k = shape
    x = (rng.integers(-300, 300, (n, d)) / 64).astype(np.float32)
    start = x[:k].copy()
    want, done = fit_by_codes(x, start, 12)
    engine = sy.Engine(threads=threads, cache_dir="")
    fit = engine.kmeans(x, k, init=start, max_iter=12, tol=0, int8=True)
    assert fit.centroids.tobytes() == want.tobytes() and fit.n_iter == done
    # The last labels, and so the counts and the inertia, are exact.
    assert (fit.labels == engine.kmeans_assign(x, fit.centroids)).all()
    assert (fit.counts == np.bincount(fit.labels, minlength=k)).all()
    error = ((x - fit.centroids[fit.labels]).astype(np.float64) ** 2).sum()
    assert abs(fit.inertia - error) <= 1e-5 * error


def test_int8_goes_with_the_other_options(engine, rng, tmp_path):
    x = rng.standard_normal((4000, 12), np.float32)
    weight = rng.random(4000, np.float32)
    exact = engine.kmeans(x, 9, seed=2, n_init=2)
    coarse = engine.kmeans(x, 9, seed=2, n_init=2, int8=True)
    assert abs(coarse.inertia / exact.inertia - 1) < 0.02
    assert coarse.centroids.tobytes() != exact.centroids.tobytes()
    for options in (
        {"sample_weight": weight},
        {"spherical": True, "closest": True},
        {"batch_size": 500, "max_iter": 30},
    ):
        fit = engine.kmeans(x, 9, seed=2, int8=True, **options)
        unit = x / np.linalg.norm(x, axis=1, keepdims=True) if "spherical" in options else x
        agree = engine.kmeans_assign(unit.astype(np.float32), fit.centroids) == fit.labels
        assert agree.mean() > 0.999
    assert engine.kmeans(np.zeros((5, 3), np.float32), 2, int8=True).inertia == 0
    small = engine.kmeans(x * np.float32(2**-40), 9, seed=2, n_init=2, int8=True)
    assert (small.labels == coarse.labels).all()  # the scale is the data's own


@pytest.mark.parametrize("init", ["k-means++", "random"])
def test_seeds_differ(engine, rng, init):
    x = rng.standard_normal((400, 3), np.float32)
    starts = [engine.kmeans(x, 6, init=init, seed=s, max_iter=1).centroids for s in (1, 2)]
    assert (starts[0] != starts[1]).any()


def test_row_strides(engine, rng):
    base = rng.standard_normal((600, 10), np.float32)
    view = base[::3, 2:8]
    a = engine.kmeans(view, 4)
    b = engine.kmeans(np.ascontiguousarray(view), 4)
    assert (a.labels == b.labels).all() and a.centroids.tobytes() == b.centroids.tobytes()


def test_weights(engine, rng):
    x = rng.standard_normal((200, 3), np.float32)
    start = x[:5].copy()
    one = engine.kmeans(x, 5, init=start, sample_weight=np.ones(200, np.float32))
    none = engine.kmeans(x, 5, init=start)
    assert (one.labels == none.labels).all()
    weight = np.zeros(200, np.float32)
    weight[:100] = 1
    half = engine.kmeans(x, 5, init=start, sample_weight=weight, max_iter=1, tol=0)
    alone = engine.kmeans(x[:100], 5, init=start, max_iter=1, tol=0)
    np.testing.assert_allclose(half.centroids, alone.centroids, rtol=1e-6)
    assert half.counts.sum() == 200


@pytest.mark.parametrize(
    ("arguments", "codes"),
    [
        (dict(k=0), {"invalid_argument", "usage"}),
        (dict(k=51), {"invalid_argument", "usage"}),
        (dict(k=-1), {"invalid_argument", "usage"}),
        (dict(k=2.5), {"invalid_argument"}),
        (dict(k="3"), {"invalid_argument"}),
        (dict(k=2**40), {"invalid_argument", "usage"}),
        (dict(k=3, n_init=0), {"invalid_argument", "usage"}),
        (dict(k=3, max_iter=-1), {"invalid_argument", "usage"}),
        (dict(k=3, tol=-1.0), {"invalid_argument", "usage"}),
        (dict(k=3, tol=float("nan")), {"invalid_argument", "usage"}),
        (dict(k=3, tol="x"), {"invalid_argument"}),
        (dict(k=3, seed=-1), {"invalid_argument"}),
        (dict(k=3, init="k-meens++"), {"invalid_argument", "usage"}),
        (dict(k=3, init=np.zeros((4, 2), np.float32)), {"shape"}),
        (dict(k=3, init=np.zeros((3, 3), np.float32)), {"shape"}),
        (dict(k=3, init=np.zeros((3, 2), np.int32)), {"dtype"}),
        (dict(k=3, sample_weight=np.ones(49, np.float32)), {"shape"}),
        (dict(k=3, sample_weight=np.zeros(50, np.float32)), {"invalid_argument"}),
        (dict(k=3, sample_weight=-np.ones(50, np.float32)), {"invalid_argument"}),
    ],
    ids=lambda v: ",".join(f"{k}={getattr(x, 'shape', x)}" for k, x in v.items())
    if isinstance(v, dict)
    else "",
)
def test_arguments_out_of_range(engine, rng, arguments, codes):
    x = rng.standard_normal((50, 2), np.float32)
    with pytest.raises(sy.InputError) as caught:
        engine.kmeans(x, **arguments)
    assert caught.value.code in codes


def test_wrong_inputs(engine):
    with pytest.raises(sy.InputError) as caught:
        engine.kmeans(np.zeros((5, 2)), 2)
    assert caught.value.code == "dtype"
    for shape in ((5,), (5, 2, 2), (0, 2), (5, 0)):
        with pytest.raises(sy.InputError) as caught:
            engine.kmeans(np.zeros(shape, np.float32), 1)
        assert caught.value.code in {"shape", "invalid_argument", "usage"}
    x = np.zeros((9, 4), np.float32)
    x[3, 2] = np.inf
    with pytest.raises(sy.InputError) as caught:
        engine.kmeans(x, 2)
    assert (caught.value.code, caught.value.index) == ("nonfinite", 14)


def test_ctrl_c_stops_a_fit(engine, rng):
    x = rng.standard_normal((2000, 16), np.float32)
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            engine.kmeans(x, 64, n_init=10_000_000, tol=0)  # would take hours
    finally:
        timer.cancel()
        timer.join()
    assert engine.kmeans(x, 3).counts.sum() == 2000


def test_the_gil_is_released(engine, rng):
    x = rng.standard_normal((2000, 16), np.float32)
    ticks = 0
    stop = threading.Event()

    def tick():
        nonlocal ticks
        while not stop.wait(0.001):
            ticks += 1
            if ticks == 20:
                os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=tick)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            engine.kmeans(x, 64, n_init=10_000_000, tol=0)
    finally:
        stop.set()
        thread.join()
    assert ticks >= 20


def test_uses(engine, tmp_path):
    rng = np.random.default_rng(3)
    x = rng.standard_normal((3000, 8), np.float32)
    fit = engine.kmeans(x, 6, init="k-means||", seed=4, closest=True)
    assert (engine.kmeans_assign(x, fit.centroids) == fit.labels).all()
    apart = engine.kmeans_transform(x, fit.centroids)
    assert apart.shape == (3000, 6)
    exact = np.sqrt(((x[:, None].astype(float) - fit.centroids[None]) ** 2).sum(-1))
    np.testing.assert_allclose(apart, exact, rtol=1e-5)
    assert (apart.argmin(0) == fit.closest_rows).all()
    assert engine.kmeans(x, 6).closest_rows is None

    product = engine.kmeans_product(x, 4, 16)
    assert product.codes.shape == (3000, 4) and product.codes.dtype == np.uint8
    error = ((product.decode().astype(float) - x) ** 2).sum()
    assert abs(product.inertia - error) < 1e-4 * error

    swept = engine.kmeans_sweep(x, [1, 2, 4], sample=200)
    assert [e.k for e in swept.entries] == [1, 2, 4]
    assert swept.entries[0].inertia > swept.entries[2].inertia

    unit = engine.kmeans(x, 4, spherical=True)
    np.testing.assert_allclose(np.linalg.norm(unit.centroids, axis=1), 1, rtol=1e-6)
    small = engine.kmeans(x, 4, batch_size=100, max_iter=40)
    assert small.labels.shape == (3000,) and small.inertia < 1.2 * engine.kmeans(x, 4).inertia

    path, labels = tmp_path / "x.npy", tmp_path / "labels.npy"
    np.save(path, x)
    streamed = engine.kmeans_file(path, 6, init=fit.centroids, labels=labels, memory=300_000)
    whole = engine.kmeans(x, 6, init=fit.centroids)
    assert (np.load(labels) == whole.labels).all() and streamed.inertia == whole.inertia
    assert (streamed.centroids == whole.centroids).all()
    assert engine.kmeans_assign_file(path, whole.centroids, labels) == whole.inertia
