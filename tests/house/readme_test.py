#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every block of README.md is a file of examples/ (or the first two commands), so that what people
copy is what the tests compile and run; and links in the documents lead somewhere.

    readme_test.py SOURCE_DIRECTORY
"""

import re
import sys
from pathlib import Path

ROOT = Path(sys.argv[1])
BLOCK = re.compile(r"(?:<!-- (\S+) -->\n)?^```(\w*)\n(.*?)^```$", re.M | re.S)
SPDX = re.compile(r"^(?:#|//) SPDX-License-Identifier: [^\n]*\n")
failures = []

text = (ROOT / "README.md").read_text()
blocks = list(BLOCK.finditer(text))
shown = set()
for name, language, body in (m.groups() for m in blocks[1:]):
    if name is None:
        failures.append(f"README.md: a {language or 'plain'} block names no file of examples/")
        continue
    shown.add(name)
    wanted = SPDX.sub("", (ROOT / name).read_text())
    if body != wanted:
        failures.append(f"README.md: the block of {name} differs from the file")
for needed in ("examples/drop_in.sh", "examples/run.yaml", "examples/host/main.cpp",
               "examples/host/CMakeLists.txt", "examples/tour.py"):
    if needed not in shown:
        failures.append(f"README.md does not show {needed}")

commands = re.findall(r"^(\./dev \w+)", blocks[0][3], re.M) if blocks else []
if commands != ["./dev demo", "./dev test"]:
    failures.append(f"README.md's first block is {commands}, not the two commands")
dev = (ROOT / "dev").read_text()
for command in re.findall(r"\./dev ([a-z]+)", text):
    if not re.search(rf"^cmd_{command}\(\)", dev, re.M):
        failures.append(f"README.md names ./dev {command}, which does not exist")

LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")
documents = [p for p in ROOT.glob("*.md")] + [
    p for folder in ("docs", "core", "plugins", "tests", "apps") for p in (ROOT / folder).rglob("*.md")]
links = 0
for document in documents:
    for target in LINK.findall(re.sub(r"```.*?```", "", document.read_text(), flags=re.S)):
        if "://" in target or target.startswith("mailto:"):
            continue
        links += 1
        if not (document.parent / target).exists():
            failures.append(f"{document.relative_to(ROOT)}: no such file: {target}")

print(f"{len(blocks)} blocks, {links} links, {len(failures)} failures")
sys.exit("\n".join(failures) if failures else 0)
