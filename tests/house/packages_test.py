#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Installed, then used by somebody else, from an empty prefix.

    packages_test.py WAY BUILD_DIRECTORY SOURCE_DIRECTORY

WAY: cmake (find_package from C and from C++), pkgconfig (the same C host by make), ctypes (the C
library from plain Python), deb (the Debian package, unpacked somewhere else and used by its program).
Exit status 77: a tool is missing.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

WAY, BUILD, SOURCE = sys.argv[1], Path(sys.argv[2]).resolve(), Path(sys.argv[3]).resolve()


def run(*command, **options):
    done = subprocess.run([str(c) for c in command], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, **options)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}: status {done.returncode}\n{done.stdout}")
    return done.stdout


def check(fact, words):
    print(("ok    " if fact else "WRONG ") + words)
    if not fact:
        sys.exit(1)


def need(*tools):
    missing = [t for t in tools if shutil.which(t) is None]
    if missing:
        print(f"skipped: not installed: {', '.join(missing)}")
        sys.exit(77)


def environment(root):
    kept = {k: v for k, v in os.environ.items()
            if not k.startswith(("SWITCHYARD_", "LD_", "PKG_CONFIG", "CMAKE_"))}
    return kept | {"SWITCHYARD_CACHE_DIR": str(root / "cache"), "HOME": str(root)}


def c_host_worked(said):
    check("inertia" in said and '"kernel"' in said, f"a C host clusters: {said.splitlines()[0]}")
    check("320000 bytes became 85000" in said, "and quantises")
    check("usage: " in said and "q3_z" in said, "errors arrive as code and words")


def use_cmake(root, env):
    prefix = installed(root)
    for name in ("c", "host"):
        shutil.copytree(SOURCE / "examples" / name, root / name)
        run("cmake", "-S", root / name, "-B", root / name / "out", f"-DCMAKE_PREFIX_PATH={prefix}",
            env=env)
        run("cmake", "--build", root / name / "out", env=env)
        said = run(root / name / "out/host", cwd=root, env=env)
        if name == "c":
            c_host_worked(said)
        else:
            check("bytes became" in said, f"a C++ host: {said.splitlines()[0]}")


def use_pkgconfig(root, env):
    need("pkg-config", "make")
    # Moved after it was installed: the file says where it lies, not where it was put.
    (root / "elsewhere").mkdir()
    prefix = root / "elsewhere/moved"
    installed(root).rename(prefix)
    env["PKG_CONFIG_PATH"] = str(next(prefix.rglob("switchyard.pc")).parent)
    version = run("pkg-config", "--modversion", "switchyard", env=env).strip()
    check(re.fullmatch(r"\d+\.\d+\.\d+", version), f"pkg-config knows version {version}")
    shutil.copytree(SOURCE / "examples/c", root / "c")
    run("make", "-C", root / "c", "host", env=env)
    c_host_worked(run(root / "c/host", cwd=root, env=env))


def use_ctypes(root, env):
    prefix = installed(root)
    library = next(prefix.rglob("libswitchyard.so"))
    said = run(sys.executable, SOURCE / "examples/ctypes_host.py", library, cwd=root, env=env)
    check("rows by cluster: [1000, 1000, 1000, 1000]" in said, "ctypes clusters four groups")
    check("who answered: kmeans.step" in said, said.splitlines()[0])
    soname = re.search(r"SONAME\s+(\S+)", run("objdump", "-p", library))[1]
    check(re.fullmatch(r"libswitchyard\.so\.\d+\.\d+", soname), f"the soname has a version: {soname}")
    check((library.parent / soname).exists(), "and is installed under it")


def use_deb(root, env):
    need("cpack", "dpkg-deb", "dpkg-shlibdeps")
    made = root / "made"
    run("cpack", "-G", "DEB", "--config", BUILD / "CPackConfig.cmake", "-B", made, env=env)
    package = next(made.glob("*.deb"))
    check(re.fullmatch(r"switchyard_[\d.]+_\w+\.deb", package.name), f"{package.name} is made")
    facts = run("dpkg-deb", "-f", package)
    check("libyaml-cpp0.7" in facts and "libc6" in facts, "it names the libraries it needs")
    tree = root / "root"
    run("dpkg-deb", "-x", package, tree)
    files = {str(p.relative_to(tree)) for p in tree.rglob("*") if not p.is_dir()}
    for name in ("usr/bin/switchyard", "usr/bin/switchyard-worker", "usr/lib/libswitchyard.so",
                 "usr/include/switchyard/switchyard.h", "usr/lib/pkgconfig/switchyard.pc",
                 "usr/lib/switchyard/plugins/switchyard_reference.so",
                 "usr/share/man/man1/switchyard.1", "usr/share/man/man1/switchyard-run.1",
                 "usr/share/bash-completion/completions/switchyard"):
        check(name in files or name + ".gz" in files, f"{name} is in it")
    check(not any(name.startswith(("usr/local", "build", "tmp")) for name in files),
          "nothing lies outside the usual folders")
    said = run(tree / "usr/bin/switchyard", "plugin", "list", "--json", env=env, cwd=root)
    check(f'{tree}/usr/lib/switchyard/plugins' in said and '"loaded"' in said,
          "the unpacked program finds its own plugins")
    said = run(tree / "usr/bin/switchyard", "explain", "quantize", "n=4096,format=q8_0", env=env,
               cwd=root)
    check("because" in said, "its worker verifies them, and it decides")


def installed(root):
    prefix = root / "prefix"
    run("cmake", "--install", BUILD, "--prefix", prefix)
    return prefix


with tempfile.TemporaryDirectory(prefix="switchyard-") as folder:
    place = Path(folder).resolve()
    {"cmake": use_cmake, "pkgconfig": use_pkgconfig, "ctypes": use_ctypes,
     "deb": use_deb}[WAY](place, environment(place))
