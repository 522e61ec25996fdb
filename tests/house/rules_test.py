#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""House rules that a machine can check, and the counts that core/README.md gives.

    rules_test.py SOURCE_DIRECTORY
"""

import re
import sys
from pathlib import Path

ROOT = Path(sys.argv[1])
LONGEST = 500
SUFFIXES = {".c", ".h", ".cpp", ".hpp", ".py", ".cmake", ".sh", ".yaml"}
FOLDERS = ("apps", "benchmarks", "cmake", "config", "core", "examples", "plugins", "tests")
failures = []


def sources():
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file() and (path.suffix in SUFFIXES or path.name == "CMakeLists.txt"):
                if "__pycache__" not in path.parts and "goldens" not in path.parts:
                    yield path
    yield ROOT / "dev"
    yield ROOT / "CMakeLists.txt"


checked = 0
for path in sources():
    name, text = path.relative_to(ROOT), path.read_text()
    checked += 1
    head = text.split("\n", 3)[:3]
    if name.parts[0] != "config" and not any("SPDX-License-Identifier: Apache-2.0" in l for l in head):
        failures.append(f"{name}: no SPDX line at the top")
    if (lines := text.count("\n")) > LONGEST:
        failures.append(f"{name}: {lines} lines, more than {LONGEST}")
    if name != Path("tests/house/rules_test.py") and (mark := re.search(r"\b(TODO|FIXME)\b", text)):
        failures.append(f"{name}: {mark[1]}: do it, or open an issue")

# Adding an operation: core/README.md lists the files; "sort" stands for any name there. The same
# list, read with "attention" instead, must be where the tree names that operation's parts.
readme = (ROOT / "core/README.md").read_text()
listed = {p.replace("sort", "attention") for p in re.findall(r"^\| `([\w/.]*)` \| (?:new|a line)", readme,
                                                             re.M)}
named = {"core/include/switchyard/ops/attention.h"}
for folder, word in (("core/src/op", "attention_spec"), ("core/src/ops", "attention_spec"),
                     ("plugins/reference", "attention_kernels")):
    for path in (ROOT / folder).iterdir():
        if path.suffix in SUFFIXES and re.search(rf"\b{word}\b", path.read_text()):
            named.add(path.relative_to(ROOT).as_posix())
if listed != named:
    failures.append(f"core/README.md: adding an operation touches {sorted(named)}, "
                    f"the page says {sorted(listed)}")
told = re.search(r"\*\*(\w+) new files and a line each in (\w+)\*\*", readme)
words = ("zero", "one", "two", "three", "four", "five", "six", "seven")
new = len(re.findall(r"^\| `[\w/.]*` \| new", readme, re.M))
if not told or (words.index(told[1].lower()), words.index(told[2].lower())) != (new, len(listed) - new):
    failures.append("core/README.md: the counts of files and lines differ from its table")

print(f"{checked} files, {len(failures)} failures")
sys.exit("\n".join(failures) if failures else 0)
