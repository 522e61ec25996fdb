#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""README's YAML run, as written: `readme_run_test.py BUILD_DIRECTORY SOURCE_DIRECTORY`. (Its plugin and
C++ host are run by drop_in_test.py, its Python by tests/python/test_examples.py.)"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

build, source = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
with tempfile.TemporaryDirectory(prefix="switchyard-") as folder:
    for name in ("run.yaml", "points.py"):
        shutil.copy(source / "examples" / name, folder)
    environment = os.environ | {"SWITCHYARD_CACHE_DIR": folder + "/cache"}
    subprocess.run([sys.executable, "points.py"], cwd=folder, check=True)
    done = subprocess.run([build / "bin/switchyard", "run", "run.yaml", "--json"], cwd=folder,
                          env=environment, stdout=subprocess.PIPE, text=True)
    print(done.stdout)
    if done.returncode != 0:
        sys.exit(f"status {done.returncode}")
    jobs = json.loads(done.stdout)["jobs"]
    if [job["name"] for job in jobs] != ["clusters", "packed"]:
        sys.exit("not the jobs of run.yaml")
    for job in jobs:
        if not job["backend"] or job["verified"] not in ("gate", "cached"):
            sys.exit(f"{job['name']}: answered by '{job['backend']}', verified: {job['verified']}")
    for name in ("labels.npy", "centroids.npy", "points.npz"):
        if not (Path(folder) / name).stat().st_size:
            sys.exit(f"{name} is empty")
