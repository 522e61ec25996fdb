# SPDX-License-Identifier: Apache-2.0
"""The wheel: packed by scikit-build-core as `pip wheel .` does, from what the build tree has compiled,
installed into an empty environment and used there."""

import email
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("SWITCHYARD_BUILD", ROOT / "build"))

# In place of the tree's: installs what is built already. Its build has nothing to do.
PREBUILT = """cmake_minimum_required(VERSION 3.25)
project(prebuilt LANGUAGES NONE)
add_custom_target(switchyard_python)
install(CODE "execute_process(COMMAND \\"${CMAKE_COMMAND}\\" --install \\"%s\\" --component python
  --prefix \\"\\${CMAKE_INSTALL_PREFIX}\\" COMMAND_ERROR_IS_FATAL ANY)" COMPONENT python)
"""

USE = """
import numpy as np, sys, switchyard as sy
engine = sy.Engine(pin={"quantize": "reference"})
engine.quantize(np.ones((4, 32), np.float32), "q8_0")
print(sy.__file__, *(plugin["path"] for plugin in engine.plugins()), sep="\\n")
assert sy.last_run().verified == "gate", sy.last_run()
"""


def run(*command, cwd, env):
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}"
    return done.stdout


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    """An empty folder and an environment where nothing of the tree or the caller helps."""
    folder = tmp_path_factory.mktemp("wheel")
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "SWITCHYARD", "SKBUILD"))}
    env |= {"SWITCHYARD_CACHE_DIR": str(folder / "cache"), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    return folder, env


@pytest.fixture(scope="module")
def wheel(clean):
    pytest.importorskip("scikit_build_core")
    if not (BUILD / "cmake_install.cmake").exists():
        pytest.skip(f"{BUILD} is no build tree")
    folder, env = clean
    (folder / "prebuilt").mkdir()
    (folder / "prebuilt" / "CMakeLists.txt").write_text(PREBUILT % BUILD)
    run(
        sys.executable, "-m", "pip", "wheel", "-q", "--no-index", "--no-deps", "--no-build-isolation",
        f"--config-settings=cmake.source-dir={folder / 'prebuilt'}", f"--config-settings=build-dir={folder / 'work'}",
        "-w", folder, ROOT, cwd=folder, env=env,
    )  # fmt: skip
    (made,) = folder.glob("*.whl")
    return made


def test_one_wheel_is_for_python_3_11_and_everything_newer(wheel):
    name, version, python, abi, platform = wheel.stem.split("-")
    assert (name, python, abi) == ("switchyard", "cp311", "abi3") and platform.startswith("linux_")
    with zipfile.ZipFile(wheel) as packed:
        names = set(packed.namelist())
        metadata = packed.read(f"switchyard-{version}.dist-info/METADATA").decode()
        worker = packed.getinfo("switchyard/switchyard-worker")
    assert worker.external_attr >> 16 & 0o111  # may be executed
    assert {
        "switchyard/_core.abi3.so",
        "switchyard/_core.pyi",
        "switchyard/py.typed",
        "switchyard/plugins/switchyard_reference.so",
        "switchyard/plugins/switchyard_avx2.so",
        "switchyard/plugins/switchyard_openmp.so",
        f"switchyard-{version}.dist-info/licenses/LICENSE",
    } <= names, sorted(names)
    assert all(n.startswith((f"switchyard-{version}.dist-info/", "switchyard/")) for n in names)
    facts = email.message_from_string(metadata)
    assert facts["Requires-Python"] == ">=3.11" and facts["License-Expression"] == "Apache-2.0"
    assert set(facts.get_all("Provides-Extra")) == {"torch", "sklearn", "report"}
    plain = {r for r in facts.get_all("Requires-Dist") if "extra" not in r}
    assert {r.split(">")[0].split("<")[0] for r in plain} == {"numpy", "nanobind-backend"}


def test_installed_into_an_empty_environment_it_works(wheel, clean):
    folder, env = clean
    run(sys.executable, "-m", "venv", "--without-pip", folder / "venv", cwd=folder, env=env)
    python = folder / "venv" / "bin" / "python"
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(run(python, "-c", where, cwd=folder, env=env).strip())
    # What the wheel asks for, and nothing else, is there already: tests install nothing from afar.
    for pattern in ("numpy", "numpy.libs", "numpy-*", "nanobind_backend", "nanobind_backend-*"):
        for found in Path(np.__file__).parents[1].glob(pattern):
            (site / found.name).symlink_to(found)
    run(sys.executable, "-m", "pip", f"--python={python}", "install", "-q", "--no-index", wheel,
        cwd=folder, env=env)  # fmt: skip
    said = run(python, "-I", "-c", USE, cwd=folder, env=env).split()
    assert len(said) >= 4 and all(line.startswith(str(site / "switchyard")) for line in said), said
    tour = run(python, "-I", ROOT / "examples" / "tour.py", cwd=folder, env=env)
    assert tour.startswith("(1024, 128) ")
