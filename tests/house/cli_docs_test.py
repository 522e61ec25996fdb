#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Manual pages and completions say what the command line offers, and are well formed.

    cli_docs_test.py BUILD_DIRECTORY
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

BUILD = Path(sys.argv[1]).resolve()
PROGRAM, DOCS = BUILD / "bin/switchyard", BUILD / "generated/cli_docs"
failures = []


def text_of(*command):
    return subprocess.run([str(c) for c in command], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=True).stdout


def check(fact, words):
    if not fact:
        failures.append(words)


def plain(page):
    return page.read_text().replace("\\-", "-").replace("\\e", "\\")


commands = re.findall(r"^  ([a-z]+)\s{2,}\S", text_of(PROGRAM, "--help").split("Subcommands:")[1], re.M)
check(len(commands) >= 13 and "run" in commands and "man" not in commands, f"commands: {commands}")
pages = {p.stem: p for p in (DOCS / "man").glob("*.1")}
for command in commands:
    check(f"switchyard-{command}" in pages, f"no manual page of {command}")
for name in ("switchyard-plugin-check", "switchyard-plugin-new", "switchyard-plugin-list"):
    check(name in pages, f"no manual page {name}")
main = plain(pages["switchyard"])
for command in commands:
    check(f".B {command}\n" in main, f"switchyard.1 does not list {command}")
    if command == "plugin":
        continue
    options = set(re.findall(r"(?<![\w-])(--[a-z][\w-]*)", text_of(PROGRAM, command, "--help")))
    page = plain(pages[f"switchyard-{command}"])
    scripts = {shell: (DOCS / name).read_text() for shell, name in
               (("bash", "switchyard"), ("zsh", "_switchyard"), ("fish", "switchyard.fish"))}
    declared = {o for o in options if re.search(rf"^\s+(?:-\w,)?{o}\b", text_of(PROGRAM, command, "--help"), re.M)}
    check(len(declared) >= 9, f"{command} --help shows {sorted(declared)}")
    for option in declared:
        check(f"\\fB{option}\\fR" in page, f"switchyard-{command}.1 lacks {option}")
        words = re.search(rf"^    '{command}'\) words='(.*)' ;;$", scripts["bash"], re.M)
        check(words and option in words[1].split(), f"bash does not complete {command} {option}")
        check(f"'{option}[" in scripts["zsh"], f"zsh does not complete {option}")
        check(f"-l {option[2:]} " in scripts["fish"], f"fish does not complete {option}")

# What the shells themselves say of the scripts.
asked = """source {file}
COMP_WORDS=(switchyard {words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _switchyard
printf '%s\\n' "${{COMPREPLY[@]}}" """


def completed(words):
    return set(text_of("bash", "-c", asked.format(file=DOCS / "switchyard", words=words)).split())


check({"run", "regret", "report"} <= completed("r"), f"bash: r gives {completed('r')}")
check(completed("plugin ''") >= {"list", "check", "new"}, f"bash: plugin gives {completed(chr(39) * 2)}")
check("--lock" in completed("tune --l"), f"bash: tune --l gives {completed('tune --l')}")
check(completed("run --policy a") == {"adaptive"}, f"bash: {completed('run --policy a')}")
for shell, name in (("zsh", "_switchyard"), ("fish", "switchyard.fish")):
    if shutil.which(shell):
        text_of(shell, "-n", DOCS / name)
if shutil.which("groff"):
    for page in pages.values():
        said = text_of("groff", "-man", "-Tutf8", "-ww", "-z", page)
        check(not said.strip(), f"groff on {page.name}: {said}")

print(f"{len(pages)} pages, {len(commands)} commands, {len(failures)} failures")
sys.exit("\n".join(failures) if failures else 0)
