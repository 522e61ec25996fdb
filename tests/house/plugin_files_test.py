#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Each plugin of the build exports one symbol, carries the ELF note and runs no code when it is
loaded; what decides whether a kernel may run is itself built for the baseline processor.

    plugin_files_test.py BUILD_DIRECTORY SOURCE_DIRECTORY

Static constructors are looked for in two places: an object of plugins/ with an .init_array section
has one; a finished plugin has exactly one pointer there, the compiler's own frame_dummy.
"""

import re
import subprocess
import sys
from pathlib import Path

from objects import objects, sections

build, source = Path(sys.argv[1]), Path(sys.argv[2]).resolve()
failures = []

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
    if not sanitized and (sizes.get(".init_array", 0) > 8 or ".ctors" in sizes):
        failures.append(f"{name} has {sizes['.init_array'] // 8} initialisers, not only "
                        "frame_dummy's")

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
