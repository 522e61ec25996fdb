# SPDX-License-Identifier: Apache-2.0
"""The Python blocks of docs/python.md run, in order, in one namespace."""

import re
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "python.md"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.M | re.S)


def test_the_tour_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("SWITCHYARD_CACHE_DIR", str(tmp_path))
    text = PAGE.read_text()
    blocks = list(BLOCK.finditer(text))
    assert len(blocks) >= 8
    namespace = {}
    for block in blocks:
        lines_before = text.count("\n", 0, block.start(1))
        exec(compile("\n" * lines_before + block[1], str(PAGE), "exec"), namespace)
