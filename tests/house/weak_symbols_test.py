#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""No weak function may be defined in two objects built with different instruction-set flags: the
linker keeps one of them, and it may be the one this processor cannot run.

    weak_symbols_test.py BUILD_DIRECTORY CXX
"""

import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from objects import objects, weak_functions


def clashes(isa_of):
    """isa_of: {object path: flags}. Yields (symbol, {flags: one object})."""
    defined = defaultdict(dict)
    for path, names in weak_functions(isa_of).items():
        for name in names:
            defined[name].setdefault(isa_of[path], path)
    for name, by_isa in sorted(defined.items()):
        if len(by_isa) > 1:
            yield name, by_isa


def planted(cxx):
    """One inline function in a baseline and an AVX2 object must be found, a static one not."""
    with tempfile.TemporaryDirectory() as folder:
        isa_of = {}
        for flags in ((), ("-mavx2",)):
            source = Path(folder) / f"part{len(flags)}.cpp"
            source.write_text(
                "inline int shared(int x) { return 3 * x; }\n"
                "static int alone(int x) { return 5 * x; }\n"
                f"int (*part{len(flags)}[])(int) = {{shared, alone}};\n"
            )
            target = source.with_suffix(".o")
            subprocess.run([*cxx, *flags, "-c", str(source), "-o", str(target)], check=True)
            isa_of[str(target)] = flags
        return [name for name, _ in clashes(isa_of)]


build, cxx = Path(sys.argv[1]), sys.argv[2:]
if (found := planted(cxx)) != ["_Z6sharedi"]:
    sys.exit(f"the check itself is broken: planted one clash, found {found}")

built = objects(build)
isa_of = {str(o.path): o.isa for o in built}
kinds = {o.isa for o in built}
print(f"{len(built)} objects with {len(kinds)} sets of instruction-set flags")
if len(built) < 50 or len(kinds) < 3:
    sys.exit("too few objects were found: is the build complete?")
bad = list(clashes(isa_of))
for name, by_isa in bad:
    print(f"{subprocess.run(['c++filt', name], stdout=subprocess.PIPE, text=True).stdout.strip()}")
    for flags, path in by_isa.items():
        print(f"    {' '.join(flags) or 'baseline'}: {Path(path).relative_to(build)}")
sys.exit(f"{len(bad)} weak functions with different instruction sets" if bad else 0)
