#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Each plugin of the build exports one symbol, carries the ELF note and runs no code when it is
loaded; what decides whether a kernel may run is itself built for the baseline processor.

    plugin_files_test.py BUILD_DIRECTORY SOURCE_DIRECTORY

Static constructors are looked for in two places: an object of plugins/ with an .init_array section
has one; and what a finished plugin's .init_array points to must be the compiler's own, frame_dummy
and libgcc's __cpu_indicator_init (cpuid, behind __builtin_cpu_supports).
"""

import re
import subprocess
import sys
from pathlib import Path

from objects import objects, readelf, sections

build, source = Path(sys.argv[1]), Path(sys.argv[2]).resolve()
COMPILERS_OWN = {"frame_dummy", "__cpu_indicator_init"}
failures = []


def initialisers(plugin):
    """Names of the functions that .init_array points to."""
    headers = "\n".join(readelf(["-SW"], [plugin])[str(plugin)])
    place = re.search(r"\.init_array\s+\S+\s+([0-9a-f]+)\s+[0-9a-f]+\s+([0-9a-f]+)", headers)
    if not place:
        return []
    start, size = int(place[1], 16), int(place[2], 16)
    names = {}
    for line in readelf(["-sW"], [plugin])[str(plugin)]:
        words = line.split()
        if len(words) == 8 and words[3] == "FUNC":
            names[int(words[1], 16)] = words[7]
    found = []
    for line in readelf(["-rW"], [plugin])[str(plugin)]:
        words = line.split()
        if len(words) >= 4 and re.fullmatch(r"[0-9a-f]{16}", words[0]):
            if start <= int(words[0], 16) < start + size:
                found.append(names.get(int(words[-1], 16), f"unknown code at {words[-1]}"))
    return found if len(found) == size // 8 else found + ["an entry without relocation"]


plugins = sorted((build / "lib/switchyard/plugins").glob("*.so"))
if len(plugins) < 2:
    failures.append(f"only {len(plugins)} plugins were built")
ours = [o for o in objects(build) if (source / "plugins") in o.source.parents]
sanitized = any(o.sanitized for o in ours)  # sanitizers add constructors of their own

for plugin, found in sections(plugins).items():
    name = Path(plugin).name
    symbols = subprocess.run(["nm", "-D", "--defined-only", plugin], stdout=subprocess.PIPE,
                             text=True, check=True).stdout.split("\n")
    exported = [line.split()[-1] for line in symbols if line]
    if exported != ["switchyard_plugin"]:
        failures.append(f"{name} exports {exported[:5]}, not switchyard_plugin alone")
    sizes = dict(found)
    if ".note.switchyard" not in sizes:
        failures.append(f"{name} has no note .note.switchyard")
    strange = set(initialisers(plugin)) - COMPILERS_OWN
    if not sanitized and (strange or ".ctors" in sizes):
        failures.append(f"{name} runs code when it is loaded: {', '.join(sorted(strange))}")

entries = [o for o in ours if o.source.name in ("plugin.cpp", "plugin.c") or
           o.source.name in ("instance.cpp", "features.cpp")]
for o in entries:
    if o.isa:
        failures.append(f"{o.source.relative_to(source)} is built with {' '.join(o.isa)}; code "
                        "that decides what may run must run everywhere")
if len(entries) < len(plugins):
    failures.append(f"{len(plugins)} plugins but only {len(entries)} entry files were found")

if not sanitized:
    by_path = {str(o.path): o.source for o in ours}
    for path, found in sections(by_path).items():
        if any(re.match(r"\.(init_array|ctors)", name) for name, _ in found):
            failures.append(f"{by_path[path].relative_to(source)} has a static constructor")

print(f"{len(plugins)} plugins, {len(ours)} objects, {len(failures)} failures")
sys.exit("\n".join(failures) if failures else 0)
