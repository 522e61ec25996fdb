# SPDX-License-Identifier: Apache-2.0
"""What makes it a good Python package: lazy imports, pickling, progress, Ctrl-C, fork, stubs."""

import ast
import copy
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import switchyard as sy
from switchyard import _core

PACKAGE = Path(sy.__file__).resolve().parent


def run_python(code):
    path = os.pathsep.join([str(Path(sy.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": path},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=120,
    )


def test_importing_takes_nothing_but_numpy():
    done = run_python(
        "import sys, numpy\n"
        "before = set(sys.modules)\n"
        "import switchyard\n"
        "new = {n.partition('.')[0] for n in set(sys.modules) - before}\n"
        "print(sorted(new - set(sys.stdlib_module_names)))"
    )
    assert done.stdout.strip() == "['nanobind_backend', 'switchyard']", done.stdout


def test_what_is_optional_says_what_it_needs():
    hide = (
        "import sys\n"
        "class Hide:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name in ('torch', 'sklearn'): raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Hide())\n"
        "import switchyard as sy\n"
    )
    for use, extra in (("sy.KMeans", "sklearn"), ("sy.torch.patch", "torch")):
        done = run_python(hide + use)
        assert done.returncode != 0 and f"switchyard[{extra}]" in done.stdout, done.stdout
    with pytest.raises(AttributeError, match="nonsense"):
        sy.nonsense
    assert {"KMeans", "MiniBatchKMeans", "torch"} <= set(dir(sy))


def test_engines_are_pickled_as_their_arguments():
    engine = sy.Engine(threads=1, pin={"quantize": "reference"}, cache_dir="", policy="thresholds")
    again = pickle.loads(pickle.dumps(engine))
    assert again is not engine and again.threads == 1
    again.quantize(np.ones(32, np.float32), "q8_0")
    assert sy.last_run().requested_backend == "reference"
    assert again.explain("kmeans.step", n=64, d=2, k=2)["policy"] == "thresholds"
    assert copy.copy(engine) is engine and copy.deepcopy([engine])[0] is engine


def test_quantized_arrays_are_pickled(engine, rng):
    q = engine.quantize(rng.standard_normal((4, 64), np.float32), "mlx_affine4", group_size=32)
    for again in (pickle.loads(pickle.dumps(q)), copy.deepcopy(q)):
        assert again.codes is not q.codes and (again.codes == q.codes).all()
        assert (again.format, again.shape, again.dtype) == (q.format, q.shape, q.dtype)
        assert (again.group_size, again.granularity) == (32, q.granularity)
        assert again.blocks is None and again.nbytes == q.nbytes
        assert (engine.dequantize(again) == engine.dequantize(q)).all()
    assert copy.copy(q).codes is q.codes
    assert "mlx_affine4" in repr(q) and "'codes'" in repr(q)
    assert q.info.kernel and pickle.loads(pickle.dumps(q.info)) == q.info


def test_a_quantized_made_by_hand_is_checked():
    with pytest.raises(sy.InputError):
        sy.Quantized(3, (32,))
    with pytest.raises(sy.InputError):
        sy.Quantized("q8_0", (32.5,))
    q = sy.Quantized("q8_0", [2, 32])
    assert q.shape == (2, 32) and q.info is None and q.nbytes == 0
    q.shape = (64,)
    assert q.shape == (64,)


# Long enough on one thread to be interrupted; it would take minutes.
LONG = dict(threads=1, pin={"*": "reference"}, cache_dir="")


def long_fit(engine, progress=None):
    x = np.random.default_rng(0).standard_normal((2000, 16), np.float32)
    return engine.kmeans(x, 64, n_init=10_000_000, tol=0, progress=progress)


def test_ctrl_c_ends_long_work():
    engine = sy.Engine(**LONG)
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            long_fit(engine)
    finally:
        timer.cancel()
        timer.join()
    engine.quantize(np.ones(32, np.float32), "q8_0")  # still usable


@pytest.mark.parametrize("work", ["quantize", "attention", "matmul", "kmeans_assign"])
def test_ctrl_c_ends_one_long_call(work):
    engine = sy.Engine(**LONG)
    x = np.ones((1, 8, 4096, 64), np.float32)
    rows, wide = x.reshape(-1, 256), np.ones((1 << 16, 256), np.float32)
    calls = {  # seconds each, and the timer ends them after a tenth
        "quantize": lambda: engine.quantize(wide, "q4_k"),
        "attention": lambda: engine.attention(x, x, x),
        "matmul": lambda: engine.matmul(rows, wide.T),
        "kmeans_assign": lambda: engine.kmeans_assign(rows, wide),
    }
    timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            calls[work]()
    finally:
        timer.cancel()
        timer.join()
    engine.quantize(np.ones(32, np.float32), "q8_0")  # still usable


def test_progress_is_told_and_may_stop():
    seen = []

    def progress(done):
        seen.append(done)
        return len(seen) < 3

    with pytest.raises(sy.Error) as stopped:
        long_fit(sy.Engine(**LONG), progress)
    assert stopped.value.code == "cancelled" and len(seen) == 3
    assert all(0 <= a <= 1 for a in seen) and seen == sorted(seen)


def test_what_a_progress_function_raises_arrives():
    def progress(done):
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        long_fit(sy.Engine(**LONG), progress)


def test_progress_must_be_a_function(engine):
    with pytest.raises(sy.InputError, match="progress"):
        engine.kmeans(np.ones((3, 2), np.float32), 1, progress=3)


def fork_and(work):
    """Runs `work` in a forked child; its exit status, or the signal that a hang ends in."""
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        try:
            work()
            os._exit(0)
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.filterwarnings("ignore:This process")
@pytest.mark.parametrize("pin", [{}, {"kmeans.step": "openmp", "quantize": "openmp"}], ids=str)
def test_an_engine_works_on_in_forked_children(rng, pin):
    if pin and "openmp" not in sy.Engine(cache_dir="").backends():
        pytest.skip("openmp does not load here")
    engine = sy.Engine(pin=pin, threads=2, cache_dir="")
    x = rng.standard_normal((8000, 8), np.float32)
    q = rng.standard_normal((1, 4, 60, 32), np.float32)
    options = dict(init=x[:20], max_iter=3)
    fit = engine.kmeans(x, 20, **options)
    codes = engine.quantize(x, "int8").codes

    def work():
        again = engine.kmeans(x, 20, **options)
        assert again.centroids.tobytes() == fit.centroids.tobytes()
        assert (engine.quantize(x, "int8").codes == codes).all()
        assert np.isfinite(engine.attention(q, q, q, causal=True)).all()  # new to the engine
        team = [threading.Thread(target=engine.quantize, args=(x, "int8")) for _ in range(2)]
        for thread in team:
            thread.start()
        for thread in team:
            thread.join()

    assert fork_and(work) == 0
    assert fork_and(work) == 0
    work()


def fit_inertia(seed):
    x = np.random.default_rng(7).standard_normal((5000, 8), np.float32)
    return sy.default_engine().kmeans(x, 9, seed=seed).inertia


@pytest.mark.filterwarnings("ignore:This process")
def test_worker_processes_agree():
    want = [fit_inertia(s) for s in range(4)]
    for method in ("fork", "spawn"):
        with multiprocessing.get_context(method).Pool(2) as pool:
            assert pool.map(fit_inertia, range(4)) == want


def test_threads_share_an_engine_through_all_calls(rng):
    engine = sy.Engine(cache_dir="")
    x = rng.standard_normal((256, 64), np.float32)
    q = rng.standard_normal((1, 4, 64, 32), np.float32)
    want = engine.quantize(x, "mlx_affine4"), engine.attention(q, q, q), engine.kmeans(x, 5)
    wrong = []

    def work():
        try:
            for _ in range(20):
                quantized = engine.quantize(x, "mlx_affine4")
                assert (quantized.codes == want[0].codes).all()
                assert sy.last_run().kernel.startswith("quantize.")
                assert np.abs(engine.attention(q, q, q) - want[1]).max() < 1e-5
                assert (engine.kmeans(x, 5).labels == want[2].labels).all()
                assert sy.last_run().kernel.startswith("kmeans.")
        except BaseException as error:
            wrong.append(error)

    team = [threading.Thread(target=work) for _ in range(4)]
    for t in team:
        t.start()
    for t in team:
        t.join()
    assert not wrong


def public(names):
    return {n for n in names if not n.startswith("_")}


def test_the_stub_names_what_the_extension_has():
    assert (PACKAGE / "py.typed").exists()
    tree = ast.parse((PACKAGE / "_core.pyi").read_text())
    top, classes = set(), {}
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            top.add(node.name)
            classes[node.name] = {
                item.target.id if isinstance(item, ast.AnnAssign) else item.name
                for item in node.body
                if isinstance(item, (ast.AnnAssign, ast.FunctionDef))
            }
        elif isinstance(node, ast.FunctionDef):
            top.add(node.name)
        elif isinstance(node, ast.AnnAssign) and node.value is None:
            top.add(node.target.id)
    assert public(top) == public(vars(_core))
    for name, members in classes.items():
        assert public(members) == public(vars(getattr(_core, name))), name


def test_checkers_know_what_is_imported_later():
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    known, loose = set(), False
    for node in tree.body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for item in node.body:
                # "x as x" is what makes a name public to them.
                known |= {a.asname for a in item.names if a.asname == a.name}
        elif isinstance(node, ast.FunctionDef) and node.name == "__getattr__":
            loose = True  # every misspelt name would be Any
    assert known == set(sy._LATER) and not loose
