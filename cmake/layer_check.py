#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Fails when a source includes what its layer must not know. Runs at build time and as a test.

    python3 cmake/layer_check.py [ROOT]        0: clean; 1: violations, one line each
    python3 cmake/layer_check.py --self-test   plants one violation of each rule and expects them found

Dependencies point down only:
    apps, tests, benchmarks -> core -> (C ABI) <- plugins -> plugins/cpu
"""

import re
import sys
import tempfile
from pathlib import Path

SOURCES = {".h", ".hpp", ".c", ".cpp", ".cc", ".in"}
INCLUDE = re.compile(r'^\s*#\s*include\s*(["<])([^">]+)[">]', re.M)
HEADERS = "core/include/switchyard/"
# Folders of core/src that may name an operation: its OpSpec, its host-side driver, the public
# functions. Files beside them: the list of operations, and the keys of a run file's jobs.
NAME_OPS = ("core/src/ops/", "core/src/kmeans/", "core/src/quantize/", "core/src/attention/",
            "core/src/models/", "core/src/facade/")
NAME_OPS_FILES = ("core/src/op/op.cpp", "core/src/config/run_schema.cpp")
# What the dispatcher calls; it is never called back.
HELPERS = ("base", "config", "host", "io", "loader", "machine", "measure", "metrics", "op", "ops",
           "registry", "store", "verify", "worker")


def is_c_header(path):
    return path.startswith(HEADERS) and path.endswith(".h")


def resolve(root, source, name, quoted):
    """The file of this tree that an include means, relative to the root, or None."""
    folders = ["core/include", "core/src"]
    if source.startswith("plugins/"):
        folders += ["plugins/cpu"]
    elif source.startswith("apps/"):
        folders.insert(0, "/".join(source.split("/")[:2]) + "/src")
    if quoted:
        folders.insert(0, str(Path(source).parent))
    for folder in folders:
        candidate = (root / folder / name).resolve()
        if candidate.is_file() and candidate.is_relative_to(root):
            return candidate.relative_to(root).as_posix()
    return None


def in_header(source, target, name):
    if is_c_header(source):
        if target is None and name not in ("stddef.h", "stdint.h"):
            return f"C headers include <stddef.h>, <stdint.h> and each other only, not {name}"
        if target is not None and not is_c_header(target):
            return f"a C header includes {target}, which is C++"
    elif target is not None and not target.startswith(HEADERS):
        return f"a public header includes {target}, which is not installed"
    return None


def in_core(source, target):
    if not target.startswith("core/"):
        return f"core includes {target}: dependencies point down only"
    folder = source.split("/")[2]
    names_op = target.startswith((HEADERS + "ops/", "core/src/ops/"))
    if names_op and not source.startswith(NAME_OPS) and source not in NAME_OPS_FILES:
        return f"only {', '.join(NAME_OPS)} and op.cpp name an operation, here {target}"
    if target.startswith("core/src/dispatcher/") and folder in HELPERS:
        return f"{folder}/ is called by the dispatcher and never calls back, but includes {target}"
    if target.startswith("core/src/"):
        below = {"base": ("base",), "io": ("base", "io")}.get(folder)
        if below and target.split("/")[2] not in below:
            return f"{folder}/ stands below {target}"
    return None


def in_plugin(source, target):
    own = "/".join(source.split("/")[:2]) + "/"
    if is_c_header(target) or target.startswith((own, "plugins/cpu/")):
        return None
    return f"plugins know core's C headers, plugins/cpu and their own folder, not {target}"


def in_app(source, target):
    own = "/".join(source.split("/")[:2]) + "/"
    if target.startswith(("core/", own)):
        return None
    return f"programs know core and their own folder, not {target}"


def check_include(source, target, name):
    if source.startswith("core/include/"):
        return in_header(source, target, name)
    if target is None:
        return None
    if source.startswith("core/"):
        return in_core(source, target)
    if source.startswith("plugins/"):
        return in_plugin(source, target)
    if source.startswith("apps/"):
        return in_app(source, target)
    return None


def check_link(root, path, plugins):
    """A plugin's CMakeLists.txt must link neither core nor another plugin."""
    own, text = path.parent.name, re.sub(r"#.*", "", path.read_text())
    for match in re.finditer(r"target_link_libraries\(([^)]*)\)", text):
        for word in match[1].split():
            other = word.removesuffix("_plugin")
            if word in ("switchyard", "switchyard_core", "Switchyard::switchyard") or (
                word.endswith("_plugin") and other in plugins and other != own
            ):
                yield f"{path.relative_to(root)}: links {word}; a plugin knows only the C headers"


def violations(root):
    root = root.resolve()
    for folder in ("core", "plugins", "apps"):
        for path in sorted((root / folder).rglob("*")):
            if path.suffix not in SOURCES or not path.is_file():
                continue
            source = path.relative_to(root).as_posix()
            text = path.read_text()
            for match in INCLUDE.finditer(text):
                target = resolve(root, source, match[2], match[1] == '"')
                if wrong := check_include(source, target, match[2]):
                    yield f"{source}:{text.count(chr(10), 0, match.start(1)) + 1}: {wrong}"
    plugins = [p.parent.name for p in (root / "plugins").glob("*/CMakeLists.txt")]
    for path in sorted((root / "plugins").glob("*/CMakeLists.txt")):
        yield from check_link(root, path, plugins)


CLEAN = {
    HEADERS + "plugin.h": "#include <stdint.h>\n",
    HEADERS + "ops/sort.h": "#include <switchyard/plugin.h>\n",
    HEADERS + "engine.hpp": "#include <string>\n#include <switchyard/ops/sort.h>\n",
    "core/src/base/text.hpp": "#include <string>\n",
    "core/src/dispatcher/dispatcher.hpp": '#include "base/text.hpp"\n',
    "core/src/registry/registry.hpp": '#include "base/text.hpp"\n',
    "core/src/ops/sort.cpp": "#include <switchyard/ops/sort.h>\n",
    "plugins/cpu/kernel.hpp": "#include <switchyard/plugin.h>\n",
    "plugins/one/plugin.cpp": '#include <kernel.hpp>\n#include "own.hpp"\n',
    "plugins/one/own.hpp": "",
    "plugins/one/CMakeLists.txt": "target_link_libraries(one_plugin PRIVATE cpu_instance)\n",
    "plugins/two/secret.hpp": "",
    "plugins/two/CMakeLists.txt": "",
    "apps/cli/src/main.cpp": '#include "dispatcher/dispatcher.hpp"\n',
    "apps/worker/main.cpp": "#include <switchyard/engine.hpp>\n",
}
PLANTED = [
    (HEADERS + "plugin.h", "#include <stdio.h>\n"),
    (HEADERS + "plugin.h", "#include <switchyard/engine.hpp>\n"),
    (HEADERS + "engine.hpp", '#include "base/text.hpp"\n'),
    ("core/src/base/text.hpp", '#include "registry/registry.hpp"\n'),
    ("core/src/registry/registry.hpp", '#include "dispatcher/dispatcher.hpp"\n'),
    ("core/src/dispatcher/dispatcher.hpp", "#include <switchyard/ops/sort.h>\n"),
    ("core/src/dispatcher/dispatcher.hpp", '#include "../../../plugins/cpu/kernel.hpp"\n'),
    ("core/src/ops/sort.cpp", '#include "../../../apps/worker/main.cpp"\n'),
    ("plugins/one/plugin.cpp", '#include "../two/secret.hpp"\n'),
    ("plugins/one/plugin.cpp", '#include "base/text.hpp"\n'),
    ("plugins/one/plugin.cpp", "#include <switchyard/engine.hpp>\n"),
    ("plugins/cpu/kernel.hpp", '#include "../one/own.hpp"\n'),
    ("plugins/one/CMakeLists.txt", "target_link_libraries(one_plugin PRIVATE switchyard_core)\n"),
    ("plugins/one/CMakeLists.txt", "target_link_libraries(one_plugin PRIVATE two_plugin)\n"),
    ("apps/cli/src/main.cpp", '#include "../../worker/main.cpp"\n'),
    ("apps/worker/main.cpp", '#include "../../plugins/one/own.hpp"\n'),
]


def self_test():
    failures = 0
    for planted in [None, *PLANTED]:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            for name, text in CLEAN.items():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).write_text(text)
            if planted:
                with open(root / planted[0], "a") as file:
                    file.write(planted[1])
            found = list(violations(root))
        if len(found) != (1 if planted else 0):
            print(f"planted {planted}: found {found}")
            failures += 1
    print(f"layer check: {len(PLANTED)} planted violations, {failures} handled wrongly")
    return failures != 0


def main():
    if sys.argv[1:] == ["--self-test"]:
        return self_test()
    found = list(violations(Path(sys.argv[1] if len(sys.argv) > 1 else ".")))
    print("\n".join(found) if found else "layers: clean")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
