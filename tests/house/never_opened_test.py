#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A plugin in the current directory, or named by the environment of a program that has more rights
than its user, is never opened: every file that the program and its workers open is listed by strace.

    never_opened_test.py BUILD_DIRECTORY

Status 77 (skipped) where strace is missing or may not trace.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

BUILD = Path(sys.argv[1]).resolve()
EVIL = BUILD / "tests/plugins/crash_at_load/switchyard_crash_at_load.so"


def skip(why):
    print(f"skipped: {why}")
    sys.exit(77)


def opened(command, directory, environment, log):
    """The files that a command and all its children tried to open or execute."""
    done = subprocess.run(["strace", "-f", "-qq", "-s", "4096", "-e", "trace=open,openat,openat2,execve",
                           "-o", str(log), *map(str, command)], cwd=directory, env=environment,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    text = log.read_text() if log.exists() else ""
    if not text:
        skip(f"strace cannot trace here: {done.stderr.strip()}")
    return text, done


def expect(fact, words):
    print(("ok    " if fact else "WRONG ") + words)
    if not fact:
        sys.exit(1)


def main(root):
    if shutil.which("strace") is None:
        skip("strace is not installed")
    here, cache = root / "here", root / "cache"
    here.mkdir()
    shutil.copy(EVIL, here / "switchyard_evil.so")
    for name in ("libswitchyard.so", "libswitchyard.so.0", "libc.so.6"):
        (here / name).write_bytes(b"not a library")
    environment = {"PATH": os.environ["PATH"], "HOME": str(root),
                   "SWITCHYARD_CACHE_DIR": str(cache)}
    program = BUILD / "bin/switchyard"
    text, done = opened([program, "plugin", "list"], here, environment, root / "plain.log")
    expect(done.returncode == 0, "plugin list runs under strace")
    expect("switchyard_reference.so" in text, "strace sees plugins being opened")
    expect(str(here) not in text and "switchyard_evil" not in text,
           "nothing of the current directory is opened")

    # The control: named by the environment, the same file is opened (and refused).
    named = environment | {"SWITCHYARD_PLUGIN_PATH": str(here)}
    text, _ = opened([program, "plugin", "list"], root, named, root / "named.log")
    expect("switchyard_evil.so" in text, "named by the environment, it is opened")
    relative = environment | {"SWITCHYARD_PLUGIN_PATH": "."}
    text, _ = opened([program, "plugin", "list"], here, relative, root / "relative.log")
    expect("switchyard_evil" not in text, "a relative directory in the environment is not searched")

    if os.geteuid() != 0:
        print("      the setuid part needs root: skipped")
        return
    home = root / "setuid"
    (home / "bin").mkdir(parents=True)
    (home / "lib/switchyard/plugins").mkdir(parents=True)
    for path in ("bin/switchyard", "bin/switchyard-worker",
                 "lib/switchyard/plugins/switchyard_reference.so"):
        shutil.copy(BUILD / path, home / path)
    own = home / "bin/switchyard"
    os.chown(own, 65534, 65534)
    os.chmod(own, 0o4755)
    for directory in (root, home, home / "bin", home / "lib", here):
        os.chmod(directory, 0o755)
    status = subprocess.run([own, "plugin", "list"], env=named, cwd=root, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True)
    if status.returncode != 0:
        print(f"      the setuid copy does not run here: skipped ({status.stdout.strip()})")
        return
    text, _ = opened([own, "plugin", "list"], root, named, root / "setuid.log")
    if "switchyard_evil.so" in text and f"{os.getuid()}" == "0":
        # A tracer may take the program's rights away; without strace the list itself tells.
        expect("evil" not in status.stdout, "a privileged program does not list it")
    else:
        expect("switchyard_evil.so" not in text, "a privileged program ignores the environment")


with tempfile.TemporaryDirectory(prefix="switchyard-") as folder:
    main(Path(folder).resolve())
