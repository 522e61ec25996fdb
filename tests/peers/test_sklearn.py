# SPDX-License-Identifier: Apache-2.0
"""switchyard.KMeans and MiniBatchKMeans as scikit-learn estimators, held to its own checks."""

import copy
import pickle
import warnings

import numpy as np
import pandas
import pytest
import sklearn.cluster
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_digits, make_blobs
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.metrics import adjusted_rand_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator, parametrize_with_checks

import switchyard as sy

BOTH = pytest.mark.parametrize("kind", [sy.KMeans, sy.MiniBatchKMeans])
# check_estimator below takes the defaults.
VARIANTS = [
    sy.KMeans(n_clusters=3, init="random", n_init=3, algorithm="elkan", engine=sy.default_engine()),
    sy.MiniBatchKMeans(n_clusters=3, batch_size=10, n_init=2, tol=1e-4),
    sy.MiniBatchKMeans(init="random", max_no_improvement=None, max_iter=3),
]


@parametrize_with_checks(VARIANTS)
def test_every_check_of_scikit_learn(estimator, check):
    check(estimator)


@BOTH
def test_check_estimator_passes_whole(kind):
    results = check_estimator(kind(), on_fail=None, on_skip=None)
    assert len(results) > 40
    assert {r["status"] for r in results} <= {"passed", "skipped"}, [
        (r["check_name"], r["exception"]) for r in results if r["status"] == "failed"
    ]


@pytest.fixture(scope="module")
def blobs():
    x, truth = make_blobs(2000, n_features=5, centers=6, cluster_std=0.5, random_state=4)
    return x, truth


@BOTH
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_finds_what_scikit_learn_finds(kind, dtype, blobs):
    x, truth = blobs[0].astype(dtype), blobs[1]
    ours = kind(6, n_init=5, random_state=0).fit(x)
    theirs = getattr(sklearn.cluster, kind.__name__)(6, n_init=5, random_state=0).fit(x)
    assert adjusted_rand_score(ours.labels_, truth) == adjusted_rand_score(theirs.labels_, truth) == 1
    assert ours.inertia_ <= 1.01 * theirs.inertia_
    assert ours.cluster_centers_.dtype == dtype and ours.labels_.dtype == np.int32
    assert ours.transform(x[:7]).dtype == dtype
    np.testing.assert_array_equal(ours.predict(x), ours.labels_)
    assert ours.score(x) == pytest.approx(-ours.inertia_, rel=1e-5)
    weights = np.linspace(0, 2, len(x))
    np.testing.assert_allclose(
        ours.score(x, sample_weight=weights),
        -(weights * ours.transform(x).min(1).astype(float) ** 2).sum(),
        rtol=1e-4,
    )


def test_the_same_start_leads_to_the_same_end():
    x = load_digits().data
    start = x[:10]
    ours = sy.KMeans(10, init=start, n_init=1, tol=0).fit(x)
    theirs = sklearn.cluster.KMeans(10, init=start, n_init=1, tol=0).fit(x)
    assert (ours.labels_ == theirs.labels_).mean() > 0.999
    assert ours.inertia_ == pytest.approx(theirs.inertia_, rel=1e-6)
    np.testing.assert_allclose(ours.cluster_centers_, theirs.cluster_centers_, atol=0.05)
    again = clone(theirs).set_params(max_iter=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        one = sy.KMeans(10, init=start, n_init=1, max_iter=1, tol=0).fit(x)
        again.fit(x)
    np.testing.assert_allclose(one.cluster_centers_, again.cluster_centers_, rtol=1e-5, atol=1e-5)


def test_a_large_common_offset_costs_no_precision(blobs):
    x = blobs[0]
    near = sy.KMeans(6, init=x[:6], n_init=1).fit(x)
    far = sy.KMeans(6, init=x[:6] + 1e8, n_init=1).fit(x + 1e8)
    assert (near.labels_ == far.labels_).mean() > 0.999
    np.testing.assert_allclose(far.cluster_centers_ - 1e8, near.cluster_centers_, atol=1e-4)
    assert far.inertia_ == pytest.approx(near.inertia_, rel=1e-4)


@BOTH
def test_weights_stand_for_repetition_in_any_order(kind):
    rng = np.random.default_rng(3)
    x = rng.standard_normal((300, 4))
    weights = rng.integers(0, 4, 300)
    order = rng.permutation(300)
    a = kind(5, random_state=1).fit(x[order], sample_weight=weights[order])
    b = kind(5, random_state=1).fit(np.repeat(x, weights, axis=0))
    np.testing.assert_array_equal(a.cluster_centers_, b.cluster_centers_)
    assert a.inertia_ == pytest.approx(b.inertia_, rel=1e-6)


@BOTH
def test_clone_pickle_and_deep_copies(kind, blobs):
    x = blobs[0]
    fitted = kind(6, random_state=2, engine=sy.Engine(threads=1, cache_dir="")).fit(x)
    for again in (pickle.loads(pickle.dumps(fitted)), copy.deepcopy(fitted)):
        np.testing.assert_array_equal(again.predict(x), fitted.predict(x))
    fresh = clone(fitted)
    assert fresh.get_params() == fitted.get_params() and not hasattr(fresh, "labels_")
    with pytest.raises(NotFittedError):
        fresh.predict(x)


@BOTH
def test_in_pipelines_and_searches(kind, blobs):
    x, truth = blobs
    pipe = make_pipeline(StandardScaler(), kind(6, n_init=4, random_state=0)).fit(x)
    assert adjusted_rand_score(pipe.predict(x), truth) > 0.95
    assert pipe.transform(x).shape == (2000, 6)
    search = GridSearchCV(kind(random_state=0), {"n_clusters": [2, 6]}, cv=2).fit(x)
    assert search.best_params_ == {"n_clusters": 6}


@BOTH
def test_set_output(kind, blobs):
    fitted = kind(3, random_state=0).set_output(transform="pandas").fit(blobs[0])
    table = fitted.transform(blobs[0])
    assert isinstance(table, pandas.DataFrame)
    prefix = kind.__name__.lower()
    assert list(table.columns) == list(fitted.get_feature_names_out())
    assert list(table.columns) == [f"{prefix}{i}" for i in range(3)]


@BOTH
def test_sparse_input_is_refused_in_words(kind):
    with pytest.raises(TypeError, match="[Ss]parse"):
        kind(2).fit(sparse.csr_array(np.eye(5)))


@BOTH
@pytest.mark.parametrize(
    "parameters",
    [
        {"n_clusters": 0},
        {"n_clusters": 2.5},
        {"n_clusters": 51},
        {"max_iter": 0},
        {"tol": -1},
        {"n_init": 0},
        {"init": "k-means+"},
        {"init": np.zeros((3, 2))},
        {"engine": "fast"},
    ],
    ids=str,
)
def test_parameters_out_of_range(kind, parameters):
    x = np.random.default_rng(0).standard_normal((50, 2))
    with pytest.raises(ValueError) as error:
        kind(**({"n_clusters": 4} | parameters)).fit(x)
    assert next(iter(parameters)).replace("init", "cent") in str(error.value).replace("init", "cent")


@BOTH
def test_bad_weights(kind):
    x = np.random.default_rng(0).standard_normal((50, 2))
    for weights in (np.zeros(50), -np.ones(50), np.full(50, np.nan), np.ones(49)):
        with pytest.raises(ValueError):
            kind(3).fit(x, sample_weight=weights)


@BOTH
def test_callables_and_arrays_as_init(kind, blobs):
    x = blobs[0]
    asked = []

    def init(rows, k, random_state):
        asked.append(k)
        return rows[random_state.permutation(len(rows))[:k]]

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kind(6, init=init, random_state=0).fit(x)
    assert len(asked) == (10 if kind is sy.KMeans else 3)
    with pytest.warns(RuntimeWarning, match="one start"):
        kind(6, init=x[:6], n_init=4).fit(x)


def test_too_few_distinct_rows_warn():
    x = np.repeat(np.eye(3), 5, axis=0)
    with pytest.warns(ConvergenceWarning, match="3 distinct"):
        fitted = sy.KMeans(5, random_state=0).fit(x)
    assert fitted.inertia_ < 1e-10


def test_partial_fit_goes_on(blobs):
    x, truth = blobs
    model = sy.MiniBatchKMeans(6, n_init=5, random_state=0)
    for begin in range(0, 2000, 250):
        model.partial_fit(x[begin : begin + 250])
    assert model.n_steps_ == 8 and len(model.labels_) == 250
    assert adjusted_rand_score(model.predict(x), truth) > 0.95
    whole = sy.MiniBatchKMeans(6, random_state=0).fit(x)
    before = whole.cluster_centers_.copy()
    whole.partial_fit(x[:100])
    assert np.abs(whole.cluster_centers_ - before).max() < 1


def test_reassignment_rescues_centers_that_nobody_chooses():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(c, 0.1, (400, 2)) for c in ((0, 0), (9, 0), (0, 9))])
    start = np.array([[0.0, 0], [500, 500], [600, 600]])
    stuck = sy.MiniBatchKMeans(3, init=start, reassignment_ratio=0, random_state=0).fit(x)
    freed = sy.MiniBatchKMeans(3, init=start, reassignment_ratio=0.3, random_state=0).fit(x)
    assert freed.inertia_ < 0.2 * stuck.inertia_


def test_verbose_tells(capsys):
    x = np.random.default_rng(0).standard_normal((100, 2))
    sy.KMeans(3, verbose=1, random_state=0).fit(x)
    assert "inertia" in capsys.readouterr().out
    sy.KMeans(3, random_state=0).fit(x)
    assert capsys.readouterr().out == ""
