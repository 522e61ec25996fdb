#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The C host interface against the committed description of its ABI (libabigail).

    c_abi_test.py BUILD_DIRECTORY SOURCE_DIRECTORY [--update]

What is compared is the header, compiled as C into a library of empty functions: so the description
holds the interface and nothing of what is behind it. That the real library exports exactly these
functions is checked too. Additions are fine; anything removed or changed fails. `--update` writes the
description anew, which is right after an addition, or before the first release. What the last release
(the nearest tag v*) described is held against the header as well: no --update can excuse what breaks its
hosts. Exit status 77: abigail-tools is missing.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

BUILD, SOURCE = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
INCLUDE, REFERENCE = SOURCE / "core/include", SOURCE / "tests/abi/host_api.abi"
DECLARATION = re.compile(r"^SY_HOST_API ([^;]*?\b(sy_\w+)\([^;]*\));", re.M)


def output(*command):
    return subprocess.run([str(c) for c in command], stdout=subprocess.PIPE, text=True,
                          check=True).stdout


functions = DECLARATION.findall((INCLUDE / "switchyard/switchyard.h").read_text())
declared = {name for _, name in functions}
exported = set(re.findall(r" T (sy_\w+)$",
                          output("nm", "-D", "--defined-only", BUILD / "lib/libswitchyard.so"), re.M))
if declared != exported or len(declared) < 20:
    sys.exit(f"declared but not exported: {sorted(declared - exported)}; "
             f"exported but not declared: {sorted(exported - declared)}")
print(f"{len(declared)} functions are declared and exported")

if shutil.which("abidw") is None or shutil.which("abidiff") is None:
    print("skipped: abigail-tools is not installed")
    sys.exit(77)



def library_of(functions, folder):
    """A library of empty functions: the interface alone."""
    stub, library = Path(folder) / "host_api.c", Path(folder) / f"libhost_api{len(functions)}.so"
    bodies = "".join(f"{text} {{{'' if text.startswith('void ') else ' return 0; '}}}\n"
                     for text, _ in functions)
    stub.write_text(f"#include <switchyard/switchyard.h>\n{bodies}")
    output(os.environ.get("CC", "cc"), "-std=c11", "-g", "-O0", "-fPIC", "-shared",
           f"-ffile-prefix-map={folder}=.", "-I", INCLUDE, stub, "-o", library)
    return library


# Structs carry their size and grow at the end: hosts built before go on working.
GROWN = """[suppress_type]
  type_kind = struct
  has_data_member_inserted_at = end
"""


def difference(reference, library, *options):
    """abidiff's status, 0 for no difference, and its words."""
    done = subprocess.run(["abidiff", "--no-added-syms", *options, reference, library],
                          stdout=subprocess.PIPE, text=True)
    return done.returncode, done.stdout


def git(tree, *words):
    done = subprocess.run(["git", "-C", str(tree), "-c", "user.name=n", "-c", "user.email=e", *words],
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return done.stdout if done.returncode == 0 else None


def last_release(tree):
    """Name and description of the nearest release behind this commit, or None."""
    tag = git(tree, "describe", "--tags", "--abbrev=0", "--match", "v[0-9]*")
    described = tag and git(tree, "show", f"{tag.strip()}:{REFERENCE.relative_to(SOURCE)}")
    return (tag.strip(), described) if described else None


def check_of_the_checks(folder):
    """A function less is noticed, and releases are found."""
    status, _ = difference(REFERENCE, library_of(functions[:-1], folder))
    if not status:
        sys.exit(f"abidiff does not notice that {functions[-1][1]} is missing: {status}")
    tree = Path(folder) / "tree"
    kept = tree / REFERENCE.relative_to(SOURCE)
    kept.parent.mkdir(parents=True)
    git(tree, "init", "-q")
    for words in ("first", "second"):
        kept.write_text(words)
        git(tree, "add", "-A")
        git(tree, "commit", "-qm", words)
        if words == "first":
            if last_release(tree) is not None:
                sys.exit("a release is found where none is")
            git(tree, "tag", "v0.1.0")
    if last_release(tree) != ("v0.1.0", "first"):
        sys.exit(f"the release v0.1.0 is not found, but {last_release(tree)}")


with tempfile.TemporaryDirectory(prefix="switchyard-") as folder:
    library = library_of(functions, folder)
    if "--update" in sys.argv:
        REFERENCE.write_text(output("abidw", "--no-corpus-path", "--no-comp-dir-path",
                                    "--no-show-locs", "--no-elf-needed", library))
        print(f"{REFERENCE} is written")
        sys.exit(0)
    status, words = difference(REFERENCE, library)
    if status:
        sys.exit(f"the C ABI changed (abidiff {status}); if hosts built before still work, "
                 f"--update:\n{words}")
    print("no change against the committed description")
    if shutil.which("git"):
        check_of_the_checks(folder)
        release = last_release(SOURCE)
        if release:
            described = Path(folder) / "release.abi"
            described.write_text(release[1])
            grown = Path(folder) / "grown"
            grown.write_text(GROWN)
            status, words = difference(described, library, "--suppressions", grown)
            if status:
                sys.exit(f"hosts built for {release[0]} break (abidiff {status}):\n{words}")
        print(f"hosts of {release[0]} go on working" if release else "no release to hold it against")
