# SPDX-License-Identifier: Apache-2.0
"""The module under test: the installed one, else the build tree's (SWITCHYARD_BUILD, or build/)."""

import importlib.util
import os
import signal
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

# A shell that starts the tests in the background has them ignore the signal, and tests send it.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def engine():
    """One engine for most tests; it keeps nothing on disk."""
    return sy.Engine(cache_dir="")


@pytest.fixture()
def rng():
    return np.random.default_rng(20240607)


@pytest.fixture(scope="session")
def program():
    """Path of the built `switchyard` program."""
    path = BUILD / "bin" / "switchyard"
    if not path.exists():
        pytest.skip(f"{path} is not built")
    return path
