# SPDX-License-Identifier: Apache-2.0
"""PNG files of a report's charts."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "house"))
import report_samples  # noqa: E402

BUILD = Path(os.environ.get("SWITCHYARD_BUILD", ROOT / "build"))


@pytest.fixture
def report(tmp_path):
    report_samples.write_all(tmp_path)
    files = [tmp_path / f"{n}.json" for n in ("info", "metrics", "bench", "regret", "peers")]
    command = [BUILD / "bin" / "switchyard", "report", *files, "-o", tmp_path / "r.html", "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def test_the_json_holds_what_the_page_shows(report):
    assert {c["kind"] for c in report["charts"]} == {"lines", "dots", "roofline", "shares", "bars"}
    lines = next(c for c in report["charts"] if c["title"] == "quantize: time over n")
    assert [s["name"] for s in lines["series"]][:1] and len(lines["series"]) == 6
    assert lines["crossovers"] and all(256 <= x["x"] <= 4194304 for x in lines["crossovers"])
    # The models of the samples cross where their times are equal.
    first = lines["crossovers"][0]
    a, b = (report_samples.BACKENDS[first[k]] for k in ("from", "to"))
    exact = (b[0] - a[0]) / (1 / a[1] - 1 / b[1])
    assert exact / 3 < first["x"] < exact * 3
    assert report["recommendations"][0]["command"].startswith("switchyard run")
    summary = report["summary"].replace("\xa0", " ")  # figures and units stay on one line
    assert "0.62 %" in summary and "Of 18 shapes" in summary


def test_every_chart_becomes_a_png(report, tmp_path):
    pytest.importorskip("matplotlib")
    import switchyard.report as pictures

    (tmp_path / "report.json").write_text(json.dumps(report))
    files = pictures.export(tmp_path / "report.json", tmp_path / "out", dpi=50)
    assert len(files) == len(report["charts"]) >= 8
    assert all(f.read_bytes().startswith(b"\x89PNG\r\n\x1a\n") and f.stat().st_size > 2000 for f in files)
    with pytest.raises(ValueError, match="not a document"):
        pictures.export({"command": "bench"}, tmp_path / "out")
