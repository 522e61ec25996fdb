#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Report pages in a real browser: headless Chromium at 1280 and 400 pixels, light and dark, without
scripts. Nothing is loaded, nothing sticks out, no words in a drawing lie on each other, and the
figures are those of the documents.

    report_pages_test.py BUILD_DIRECTORY [--keep DIRECTORY]

--keep leaves pages and screenshots there, to be looked at. Exit status 77: no Chromium.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import report_samples  # noqa: E402
from chromium import Chromium, find  # noqa: E402

BUILD = Path(sys.argv[1]).resolve()
failures = []

# Words in a visible drawing that meet other words or marks, or leave it; letters smaller than 9 pixels.
LOOK = """(() => {
  const bad = [];
  let drawings = 0;
  for (const svg of document.querySelectorAll('svg.wide, svg.narrow')) {
    const frame = svg.getBoundingClientRect();
    if (frame.width === 0) continue;
    ++drawings;
    const scale = frame.width / svg.viewBox.baseVal.width;
    if (12 * scale < 9) bad.push('small letters: ' + svg.getAttribute('aria-label'));
    const words = [...svg.querySelectorAll('text')].map(t => [t.textContent, t.getBoundingClientRect(),
                                                            t.hasAttribute('transform')]);
    words.forEach(([a, r, turned], i) => {
      if (r.left < frame.left - 1 || r.right > frame.right + 1 || r.top < frame.top - 1 ||
          r.bottom > frame.bottom + 1) bad.push('outside: ' + a);
      for (const [b, q, other] of words.slice(i + 1)) {
        if (turned || other) continue;
        if (r.left < q.right - 1 && q.left < r.right - 1 && r.top < q.bottom - 2 && q.top < r.bottom - 2)
          bad.push('"' + a + '" lies on "' + b + '" in ' + svg.getAttribute('aria-label'));
      }
      if (turned) return;
      for (const mark of svg.querySelectorAll('.m')) {
        const q = mark.getBoundingClientRect();
        if (r.left < q.right - 2 && q.left < r.right - 2 && r.top < q.bottom - 4 && q.top < r.bottom - 4)
          bad.push('a mark lies on "' + a + '" in ' + svg.getAttribute('aria-label'));
      }
    });
  }
  const root = document.documentElement;
  const rgb = getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number);
  return {bad, drawings, overflow: root.scrollWidth - innerWidth,
          light: (rgb[0] + rgb[1] + rgb[2]) / 3, text: document.body.innerText,
          pictures: [...document.images].map(i => i.naturalWidth)};
})()"""


def run(*words, folder, status=0):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SWITCHYARD_")}
    environment |= {"SWITCHYARD_CACHE_DIR": str(folder / "cache"), "HOME": str(folder)}
    done = subprocess.run([str(BUILD / "bin/switchyard"), *map(str, words)], cwd=folder,
                          env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != status:
        sys.exit(f"switchyard {' '.join(map(str, words))}: status {done.returncode}\n{done.stderr}")
    return done.stdout


def check(fact, words):
    if not fact:
        failures.append(words)


def make_run(folder):
    """A run of jobs with a picture, as a user would have it."""
    (folder / "run.yaml").write_text(f"""version: 1
jobs:
  - name: colours
    op: kmeans
    input: {{x: picture.png}}
    output: {{picture: clustered.png}}
    k: 6
    compare: [reference]
  - name: labels
    op: kmeans
    input: {{x: picture.png}}
    output: {{centroids: palette.npy}}
    k: 3
  - name: packed
    op: quantize
    input: {{x: palette.npy}}
    output: {{out: palette.npz}}
    format: int8
    compare: [reference]
""")
    run("run", "run.yaml", "--report", "run.html", "--metrics", "metrics.json", folder=folder)
    return folder / "run.html"


def make_pages(folder):
    pages = {"run": make_run(folder)}
    for name, files in {
        "metrics": [folder / "samples" / "info.json", folder / "samples" / "metrics.json"],
        "bench": [folder / "samples" / "info.json", folder / "samples" / "bench.json"],
        "regret": [folder / "samples" / "regret.json"],
        "peers": [folder / "samples" / "peers.json"],
        "compare": ["--compare", folder / "samples" / "bench.json", folder / "samples" / "bench_after.json"],
    }.items():
        out = folder / f"{name}.html"
        doc = json.loads(run("report", *files, "-o", out, "--json", folder=folder))
        check(doc["charts"], f"{name}: no charts in the JSON")
        pages[name] = out
    return pages


def look_at_axes(browser, folder):
    """Words of an axis stay inside whatever the times were."""
    for step in range(12):
        doc = folder / f"axes{step}.json"
        doc.write_text(json.dumps(report_samples.bench(slower=10 ** (step / 12))))
        page = folder / f"axes{step}.html"
        run("report", doc, "-o", page, folder=folder)
        for width in (1280, 400):
            browser.open(page.as_uri(), width, 900, False, scripts=False)
            for words in browser.evaluate(LOOK)["bad"]:
                check(False, f"times of step {step} at {width}: {words}")


def look_at(browser, name, page, shots):
    for width in (1280, 400):
        for dark in (False, True):
            browser.open(page.as_uri(), width, 900, dark, scripts=False)
            seen = browser.evaluate(LOOK)
            where = f"{name} at {width} {'dark' if dark else 'light'}"
            for words in seen["bad"]:
                check(False, f"{where}: {words}")
            check(seen["drawings"] >= 1, f"{where}: {seen['drawings']} drawings are visible")
            check(seen["overflow"] <= 0, f"{where}: sticks out by {seen['overflow']} pixels")
            check((seen["light"] < 60) == dark, f"{where}: background of {seen['light']:.0f}")
            check("Switchyard report" in seen["text"], f"{where}: no text")
            check(all(seen["pictures"]), f"{where}: a picture is broken")
            if name == "run":
                check(len(seen["pictures"]) == 2, f"{where}: {len(seen['pictures'])} pictures")
                check("Decisions" in seen["text"] and "Machine" in seen["text"], f"{where}: a section is missing")
            foreign = [u for u in browser.requests() if not u.startswith((page.as_uri(), "data:"))]
            check(not foreign, f"{where}: asks for {foreign}")
            browser.screenshot(shots / f"{name}-{width}-{'dark' if dark else 'light'}.png")


def main(folder, shots):
    (folder / "samples").mkdir(exist_ok=True)
    report_samples.write_all(folder / "samples")
    (folder / "picture.png").write_bytes(report_samples.picture())
    pages = make_pages(folder)
    for name, page in pages.items():
        text = page.read_text()
        check("<script" not in text and "http://" not in text and "https://" not in text,
              f"{name}: a script or an address of the network")
    bench = pages["bench"].read_text()
    check("From n = " in bench and "crossovers" not in bench, "bench: the crossover is not told")
    check("Roofline" in bench, "bench: no roofline")
    roofline = pages["metrics"].read_text().split("<h2>Roofline", 1)[1]
    for operation in ("quantize", "kmeans.step", "attention"):  # in the wide and the narrow drawing
        check(roofline.count(f">{operation}</text>") == 2, f"metrics: the roofline does not name {operation}")
    check("time of" in pages["compare"].read_text(), "compare: no sentence")
    if find() is None:
        print("skipped in the browser: no Chromium")
        sys.exit("\n".join(failures) if failures else 77)
    browser = Chromium(folder / "profile")
    for name, page in pages.items():
        look_at(browser, name, page, shots)
    look_at_axes(browser, folder)
    browser.close()
    print(f"{len(pages)} pages, {len(list(shots.glob('*.png')))} screenshots, {len(failures)} failures")


with tempfile.TemporaryDirectory(prefix="switchyard-") as temporary:
    if "--keep" in sys.argv:
        kept = Path(sys.argv[sys.argv.index("--keep") + 1]).resolve()
        kept.mkdir(parents=True, exist_ok=True)
        main(kept, kept)
    else:
        main(Path(temporary), Path(temporary))
sys.exit("\n".join(failures) if failures else 0)
