# SPDX-License-Identifier: Apache-2.0
"""The object files of a build tree and what is in them, for the checks in this folder."""

import json
import re
import shlex
import subprocess
from pathlib import Path


class Object:
    """One compiled source: paths of both, and the instruction-set flags it was built with."""

    def __init__(self, entry):
        words = shlex.split(entry["command"])
        directory = Path(entry["directory"])
        self.source = (directory / entry["file"]).resolve()
        self.path = directory / words[words.index("-o") + 1]
        # -mtune and -mprefer-vector-width choose among instructions, they add none.
        self.isa = tuple(sorted(
            w for w in words
            if w.startswith("-m") and not w.startswith(("-mtune", "-mprefer-vector-width", "-mtls-dialect"))
        ))
        self.sanitized = any(w.startswith("-fsanitize") for w in words)


def objects(build):
    entries = json.loads((Path(build) / "compile_commands.json").read_text())
    found = (Object(e) for e in entries)
    return [o for o in found if o.path.exists()]


def readelf(options, paths):
    """Lines of readelf's output by file."""
    lines, current = {str(p): [] for p in paths}, None
    paths = [str(p) for p in paths]
    for first in range(0, len(paths), 100):
        part = paths[first:first + 100]
        out = subprocess.run(["readelf", *options, *part], stdout=subprocess.PIPE, text=True,
                             check=True).stdout
        current = part[0]
        for line in out.splitlines():
            if line.startswith("File: "):
                current = line[6:]
            else:
                lines[current].append(line)
    return lines


SYMBOL = re.compile(r"\s*\d+:\s+\S+\s+\d+\s+(\w+)\s+(\w+)\s+\w+\s+(\w+)\s+(\S+)")


def weak_functions(paths):
    """{path: names of weak functions that the object defines}"""
    found = {}
    for path, lines in readelf(["-sW"], paths).items():
        found[path] = {
            m[4] for m in map(SYMBOL.match, lines)
            if m and m[1] == "FUNC" and m[2] == "WEAK" and m[3] != "UND"
        }
    return found


SECTION = re.compile(r"\s*\[\s*\d+\]\s+(\S+)\s+\S+\s+[0-9a-f]+\s+[0-9a-f]+\s+([0-9a-f]+)")


def sections(paths):
    """{path: [(section, size in bytes)]}"""
    return {
        path: [(m[1], int(m[2], 16)) for m in map(SECTION.match, lines) if m]
        for path, lines in readelf(["-SW"], paths).items()
    }
