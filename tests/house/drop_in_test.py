#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A plugin by somebody else: Switchyard is installed into a temporary prefix, examples/plugin is
copied out of the tree and built with nothing but find_package(Switchyard), its file is put into a
folder; the installed command lists, verifies, chooses and explains it, and nothing is rebuilt.
A C++ host is built the same way.

    drop_in_test.py BUILD_DIRECTORY SOURCE_DIRECTORY

The commands are those of examples/drop_in.sh, which README.md shows.
"""

import array
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

BUILD, SOURCE = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
N, K = 20000, 2048


def write_npy(path, values):
    header = "{'descr': '<f4', 'fortran_order': False, 'shape': (%d, 1), }" % len(values)
    header = header.encode() + b" " * (-(len(header) + 11) % 64) + b"\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header +
                     values.tobytes())


def run(*command, status=0, **options):
    done = subprocess.run([str(c) for c in command], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, **options)
    if done.returncode != status:
        sys.exit(f"{' '.join(map(str, command))}: status {done.returncode}, not {status}\n"
                 f"{done.stdout}{done.stderr}")
    return done.stdout


def check(fact, words):
    print(("ok    " if fact else "WRONG ") + words)
    if not fact:
        sys.exit(1)


def install(prefix):
    run("cmake", "--install", BUILD, "--prefix", prefix)
    for name in ("bin/switchyard", "bin/switchyard-worker", "include/switchyard/plugin.h",
                 "include/switchyard/switchyard.hpp", "share/switchyard/presets/balanced.yaml"):
        check((prefix / name).exists(), f"{name} is installed")
    check(not (prefix / "switchyard").exists(), "nothing lies outside the usual folders")


def tour(prefix, work, environment):
    """examples/drop_in.sh; building the tree is done already."""
    script = (SOURCE / "examples/drop_in.sh").read_text()
    kept = [line for line in script.splitlines()
            if not line.startswith(("./dev build", "cmake --install"))]
    check(len(kept) == len(script.splitlines()) - 2, "drop_in.sh builds and installs first")
    names = environment | {"PREFIX": str(prefix), "WORK": str(work)}
    names.pop("SWITCHYARD_PLUGIN_PATH", None)
    return run("bash", "-euo", "pipefail", "-c", "\n".join(kept), cwd=SOURCE, env=names)


def scaffold(prefix, work, environment, switchyard):
    """plugin new, build, plugin check, drop in, be chosen; a scaffold for each operation."""
    made = switchyard("plugin", "new", "mine", "--op", "dequantize")
    check(len(made["files"]) == 4, "plugin new writes four files")
    check("exists" in switchyard("plugin", "new", "mine", "--op", "dequantize",
                                 status=1)["error"]["message"], "and overwrites none")
    check("no plugin name" in switchyard("plugin", "new", "Bad-Name", "--op", "attention",
                                         status=2)["error"]["message"], "names are checked")
    check("unknown operation" in switchyard("plugin", "new", "other", "--op", "sort",
                                            status=2)["error"]["message"], "so are operations")
    for op in ("quantize", "kmeans.step", "kmeans.assign", "attention"):
        switchyard("plugin", "new", "new_" + op.replace(".", "_"), "--op", op)
    names = ["mine"] + sorted(p.name for p in work.glob("new_*"))
    run("cmake", "-B", work / "mine/out", "-S", work / "mine", f"-DCMAKE_PREFIX_PATH={prefix}",
        env=environment)
    run("cmake", "--build", work / "mine/out", env=environment)
    report = switchyard("plugin", "check", "mine/out/switchyard_mine.so")
    check(report["passed"], "the scaffold passes plugin check: "
          f"{sum(c['state'] == 'pass' for c in report['checks'])} checks")
    shutil.copy(work / "mine/out/switchyard_mine.so", work / "plugins")
    # Beside plain loops alone it must win: it is twenty times faster.
    plain = work / "plain"
    for path in ("bin/switchyard", "bin/switchyard-worker"):
        (plain / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(prefix / path, plain / path)
    reference = next(prefix.rglob("switchyard_reference.so"))
    (plain / "lib/switchyard/plugins").mkdir(parents=True)
    shutil.copy(reference, plain / "lib/switchyard/plugins")
    names_env = environment | {"SWITCHYARD_PLUGIN_PATH": str(work / "plugins")}
    why = json.loads(run(plain / "bin/switchyard", "explain", "dequantize",
                         "n=1048576,format=q8_0", "--measure", "--json", env=names_env))
    ours = [c for c in why["candidates"] if c["kernel"].endswith("@mine")]
    check(len(ours) == 1 and ours[0]["verified"] in ("gate", "cached") and ours[0]["median_ns"] > 0,
          "dropped in, it is verified and measured")
    check(why["chosen"].endswith("@mine"), f"and chosen: {why['rule']}")
    for name in names[1:]:
        source = work / name
        run("cmake", "-B", source / "out", "-S", source, f"-DCMAKE_PREFIX_PATH={prefix}",
            env=environment)
        run("cmake", "--build", source / "out", env=environment)
        report = switchyard("plugin", "check", f"{name}/out/switchyard_{name}.so")
        check(report["passed"], f"so does {name}")


def main(root):
    prefix, work = root / "prefix", root / "work"
    work.mkdir()
    # HOME too, so that nothing of this user's cache is read or written.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SWITCHYARD_")}
    environment |= {"SWITCHYARD_CACHE_DIR": str(root / "cache"), "HOME": str(root)}
    install(prefix)
    program = prefix / "bin/switchyard"

    def switchyard(*words, status=0, plugin=True, **names):
        names = environment | names
        if plugin:
            names["SWITCHYARD_PLUGIN_PATH"] = str(work / "plugins")
        out = run(program, *words, "--json", status=status, env=names, cwd=work)
        return json.loads(out)

    def listed(**options):
        plugins = switchyard("plugin", "list", **options)["plugins"]
        return {p["id"]: p for p in plugins if p["status"] == "loaded"}

    before = listed(plugin=False)
    check("reference" in before and "sorted1d" not in before,
          f"the installed command finds its own plugins: {', '.join(sorted(before))}")
    check(all(p["path"].startswith(str(prefix)) for p in before.values()),
          "all of them from the prefix")

    text = tour(prefix, work, environment)
    check("sorted1d" in text, "README's commands run")
    after = listed()
    check(set(after) == set(before) | {"sorted1d"}, "the plugin is listed")
    check(len(after["sorted1d"]["kernels"]) == 2, "with both kernels")

    shape = f"n={N},d=1,k={K}"
    why = switchyard("explain", "kmeans", shape, "--measure", "--policy", "benchmark")
    ours = [c for c in why["candidates"] if c["kernel"].endswith("@sorted1d")]
    check(len(ours) == 1 and ours[0]["supported"], "explain weighs it")
    check(ours[0]["verified"] in ("gate", "cached"), f"verified: {ours[0]['verified']}")
    check(ours[0]["median_ns"] > 0, f"measured: {ours[0]['median_ns'] / 1e6:.3f} ms")
    # Whether sorting wins depends on the machine; that the fastest one is chosen does not.
    timed = {c["kernel"]: c["median_ns"] for c in why["candidates"] if c["median_ns"] > 0}
    check(timed[why["chosen"]] <= 1.06 * min(timed.values()), f"chosen: {why['rule']}")
    two = switchyard("explain", "kmeans", "n=5000,d=2,k=8")
    reasons = [c["reason"] for c in two["candidates"] if c["kernel"].endswith("@sorted1d")]
    check(reasons and "one-dimensional" in reasons[0], f"refused where it says so: {reasons[0]}")

    rng = random.Random(5)
    write_npy(work / "x.npy", array.array("f", (rng.gauss(0, 1) for _ in range(N))))
    fit = ("kmeans", "x.npy", "-k", K, "--init", "random", "--max-iter", "3", "--tol", "0")
    # Whoever is fastest from one step to the next: the bits are the same.
    switchyard(*fit, "--policy", "benchmark", "--labels", "a.npy")
    result = switchyard(*fit, "--backend", "sorted1d", "--labels", "b.npy", "--centroids", "bc.npy")
    check(result["backend"] == "sorted1d", f"a pinned fit is answered by {result['kernel']}")
    check(result["verified"] in ("gate", "cached"), f"verified: {result['verified']}")
    switchyard(*fit, "--backend", "reference", "--labels", "c.npy", "--centroids", "cc.npy")
    check((work / "b.npy").read_bytes() == (work / "c.npy").read_bytes() ==
          (work / "a.npy").read_bytes(), "labels equal the reference's")
    check((work / "bc.npy").read_bytes() == (work / "cc.npy").read_bytes(),
          "centroids equal the reference's, byte for byte")
    error = switchyard("quantize", "x.npy", "q.npz", "--format", "ternary", "--backend",
                       "sorted1d", status=4)["error"]
    check("sorted1d" in error["message"], f"pinned where it cannot: {error['message']}")

    scaffold(prefix, work, environment, switchyard)

    host = work / "host"
    shutil.copytree(SOURCE / "examples/host", host)
    run("cmake", "-S", host, "-B", host / "out", f"-DCMAKE_PREFIX_PATH={prefix}", cwd=work,
        env=environment)
    run("cmake", "--build", host / "out", cwd=work, env=environment)
    said = run(host / "out/host", cwd=work, env=environment)
    check("inertia" in said and "bytes became" in said, f"a C++ host: {said.splitlines()[0]}")


with tempfile.TemporaryDirectory(prefix="switchyard-") as folder:
    main(Path(folder).resolve())
