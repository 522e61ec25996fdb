# SPDX-License-Identifier: Apache-2.0
"""Live oracles: the owners of the formats and algorithms, from PyPI (benchmarks/requirements.txt).

The module under test is the build tree's (SWITCHYARD_BUILD, or build/), else the installed one.
"""

import importlib.util
import os
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("SWITCHYARD_BUILD", ROOT / "build"))

if (BUILD / "python" / "switchyard").is_dir():
    sys.path.insert(0, str(BUILD / "python"))
elif importlib.util.find_spec("switchyard") is None:
    raise pytest.UsageError(
        f"no switchyard module: build it with -DSWITCHYARD_PYTHON=ON in {BUILD}, or pip install ."
    )

import switchyard as sy  # noqa: E402


@pytest.fixture(scope="session")
def engine():
    """The default engine; it keeps nothing on disk."""
    return sy.Engine(cache_dir="")


@pytest.fixture(scope="module", params=["reference", "avx2", "avx512", "openmp", "openblas"])
def each_engine(request):
    """An engine pinned to each backend that loads here, in turn. test_OP_oracles.py skips those that
    have no kernel for OP."""
    op = request.module.__name__.removeprefix("test_").removesuffix("_oracles")
    for plugin in sy.Engine(cache_dir="").plugins():
        if request.param in plugin["instances"]:
            if any(kernel.startswith(op) for kernel in plugin["kernels"]):
                return sy.Engine(pin={"*": request.param}, cache_dir="")
            pytest.skip(f"{request.param} has no kernel for {op}")
    pytest.skip(f"{request.param} does not load here")


@pytest.fixture()
def rng():
    return np.random.default_rng(20240607)


_SWEEP: dict = {}


@pytest.fixture(scope="session")
def sweep_counts():
    """{(owner, format): {kind: values compared}}, printed at the end."""
    return _SWEEP


def pytest_terminal_summary(terminalreporter):
    if not _SWEEP:
        return
    terminalreporter.section("values whose bytes equal the owner's")
    for (owner, format), kinds in _SWEEP.items():
        least = min(kinds, key=kinds.get)
        terminalreporter.write_line(
            f"{owner:<8} {format:<24} {sum(kinds.values()):>12,} in {len(kinds)} kinds, "
            f"at least {kinds[least]:,} of each"
        )
