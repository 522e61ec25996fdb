#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The C host interface against the committed description of its ABI (libabigail).

    c_abi_test.py BUILD_DIRECTORY SOURCE_DIRECTORY [--update]

What is compared is the header, compiled as C into a library of empty functions: so the description
holds the interface and nothing of what is behind it. That the real library exports exactly these
functions is checked too. Additions are fine; anything removed or changed fails. `--update` writes the
description anew, which is right after an addition, or before the first release. Exit status 77:
abigail-tools is missing.
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

with tempfile.TemporaryDirectory(prefix="switchyard-") as folder:
    stub, library = Path(folder) / "host_api.c", Path(folder) / "libhost_api.so"
    bodies = "".join(f"{text} {{{'' if text.startswith('void ') else ' return 0; '}}}\n"
                     for text, _ in functions)
    stub.write_text(f"#include <switchyard/switchyard.h>\n{bodies}")
    output(os.environ.get("CC", "cc"), "-std=c11", "-g", "-O0", "-fPIC", "-shared",
           f"-ffile-prefix-map={folder}=.", "-I", INCLUDE, stub, "-o", library)
    if "--update" in sys.argv:
        REFERENCE.write_text(output("abidw", "--no-corpus-path", "--no-comp-dir-path",
                                    "--no-show-locs", "--no-elf-needed", library))
        print(f"{REFERENCE} is written")
        sys.exit(0)
    done = subprocess.run(["abidiff", "--no-added-syms", REFERENCE, library], stdout=subprocess.PIPE,
                          text=True)
# 4: something changed, if only a member at the end of a struct; 8: hosts break; 1, 2: the tool failed.
if done.returncode:
    sys.exit(f"the C ABI changed (abidiff {done.returncode}); if hosts built before still work, "
             f"--update:\n{done.stdout}")
print("no change")
