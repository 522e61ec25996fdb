# SPDX-License-Identifier: Apache-2.0
"""examples/tour.py, which README.md shows, runs as it stands."""

import runpy
from pathlib import Path

TOUR = Path(__file__).resolve().parents[2] / "examples" / "tour.py"


def test_the_readme_tour_runs(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("SWITCHYARD_CACHE_DIR", str(tmp_path))
    names = runpy.run_path(str(TOUR))
    assert names["q"].codes.shape == (1024, 128)
    assert names["fit"].labels.shape == (1024,)
    assert names["out"].shape == (1, 8, 128, 64)
    assert names["why"]["chosen"] in capsys.readouterr().out
