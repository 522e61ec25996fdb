#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The golden names every member and constant of the frozen headers, and at least half of each public
C header is contract: `headers_test.py ROOT`."""

import re
import sys
from pathlib import Path

ROOT = Path(sys.argv[1])
NAMES = ("plugin.h", "ops/attention.h", "ops/kmeans.h", "ops/quantize.h")
COMMENT = re.compile(r"/\*.*?\*/", re.S)
failures = []


def block_at(text, start):
    depth = 1
    for end in range(start, len(text)):
        depth += (text[end] == "{") - (text[end] == "}")
        if depth == 0:
            return text[start:end]
    raise ValueError("a brace is not closed")


def declared(text):
    """What a header declares, in the golden's words."""
    text = COMMENT.sub("", text)
    for match in re.finditer(r"(?:typedef struct (\w+)|enum(?: \w+)?) \{", text):
        body = block_at(text, match.end())
        if match[1]:
            yield match[1]
            body = re.sub(r"struct \{.*?\} (\w+);", r"int \1;", body, flags=re.S)
            for statement in filter(None, map(str.strip, body.split(";"))):
                name = re.search(r"\(\*(\w+)\)\(", statement) or re.search(
                    r"(\w+)(?:\[[^\]]*\])?$", statement
                )
                yield f"{match[1]}.{name[1]}"
        else:
            for part in filter(None, map(str.strip, body.split(","))):
                yield re.match(r"\w+", part)[0]
    for match in re.finditer(r'#define (SY_\w+) (?:"[^"]*"|\d+u?)$', text, re.M):
        yield match[1]


golden = set()
for words in re.findall(r"^(?:SIZE|GROWS|OFFSET|VALUE|TEXT)\((.*)\)$",
                        (ROOT / "tests/abi/golden_1_0.inc").read_text(), re.M):
    parts = [p.strip() for p in words.split(",")]
    golden.add(".".join(parts[:-1]))
golden.add("SY_ABI_MINOR")  # what later minors change

frozen = {name for n in NAMES
          for name in declared((ROOT / "tests/abi/v1_0/switchyard" / n).read_text())}
if len(frozen) < 200:
    failures.append(f"only {len(frozen)} declarations were understood")
for name in sorted(frozen - golden):
    failures.append(f"tests/abi/golden_1_0.inc lacks {name}")
for name in sorted(golden - frozen):
    failures.append(f"tests/abi/golden_1_0.inc names {name}, which v1_0 does not declare")

for name in NAMES:
    text = (ROOT / "core/include/switchyard" / name).read_text()
    commented = set()
    for match in COMMENT.finditer(text):
        commented.update(range(text.count("\n", 0, match.start()),
                               text.count("\n", 0, match.end()) + 1))
    lines = [i for i, line in enumerate(text.split("\n")) if line.strip()]
    share = sum(i in commented for i in lines) / len(lines)
    print(f"{name}: {share:.0%} of {len(lines)} lines carry contract")
    if share < 0.5:
        failures.append(f"{name}: less than half of it is contract")

print(f"{len(frozen)} declarations, {len(failures)} failures")
sys.exit("\n".join(failures) if failures else 0)
