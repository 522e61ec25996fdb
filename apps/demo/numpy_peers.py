# SPDX-License-Identifier: Apache-2.0
"""What a careful NumPy user would write for the demo's jobs, and how long it takes."""

import time

import numpy as np


def median_ms(run, times: int = 3):
    """The last result of `run()` and the median of its times."""
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        result = run()
        taken.append((time.perf_counter() - start) * 1e3)
    return result, sorted(taken)[len(taken) // 2]


def kmeans_plus_plus(x: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    trials = 2 + int(np.log(k))
    norms = np.einsum("ij,ij->i", x, x)
    centres = np.empty((k, x.shape[1]), dtype=x.dtype)
    centres[0] = x[rng.integers(len(x))]
    nearest = norms - 2 * (x @ centres[0]) + centres[0] @ centres[0]
    for j in range(1, k):
        total = np.cumsum(np.maximum(nearest, 0), dtype=np.float64)
        picks = np.searchsorted(total, rng.random(trials) * total[-1]).clip(max=len(x) - 1)
        tried = x[picks]
        distances = norms - 2 * (tried @ x.T) + np.einsum("ij,ij->i", tried, tried)[:, None]
        np.minimum(distances, nearest, out=distances)
        best = distances.sum(axis=1, dtype=np.float64).argmin()
        nearest = distances[best]
        centres[j] = tried[best]
    return centres


def kmeans(x: np.ndarray, k: int, iterations: int, seed: int = 0):
    """Lloyd's iterations from greedy k-means++; returns labels, centres and inertia."""
    centres = kmeans_plus_plus(x, k, np.random.default_rng(seed))

    def assign():
        scores = x @ (-2 * centres.T)
        scores += np.einsum("ij,ij->i", centres, centres)
        return scores.argmin(axis=1)

    for _ in range(iterations):
        labels = assign()
        counts = np.bincount(labels, minlength=k)
        for m in range(x.shape[1]):
            sums = np.bincount(labels, weights=x[:, m], minlength=k)
            centres[:, m] = np.where(counts > 0, sums / np.maximum(counts, 1), centres[:, m])
    labels = assign()
    inertia = float(((x - centres[labels]).astype(np.float64) ** 2).sum())
    return labels, centres, inertia


def mlx_affine4(w: np.ndarray, group: int = 64):
    """MLX's 4-bit affine format: packed codes, scales, biases."""
    x = w.reshape(-1, group)
    low, high = x.min(axis=1), x.max(axis=1)
    scale = np.maximum((high - low) / np.float32(15), np.float32(1e-7))
    from_low = np.abs(low) > np.abs(high)
    scale = np.where(from_low, scale, -scale)
    edge = np.where(from_low, low, high)
    q0 = np.rint(edge / scale)
    some = q0 != 0
    scale = np.where(some, edge / np.where(some, q0, 1), scale).astype(np.float32)
    bias = np.where(some, edge, 0).astype(np.float32)
    codes = np.rint((x - bias[:, None]) / scale[:, None]).clip(0, 15).astype(np.uint8)
    packed = (codes[:, 0::2] | codes[:, 1::2] << 4).view(np.uint32)
    rows = w.shape[:-1]
    return packed.reshape(*rows, -1), scale.reshape(*rows, -1), bias.reshape(*rows, -1)


def ternary(w: np.ndarray):
    """BitNet b1.58: codes in {-1, 0, 1} and one scale."""
    scale = np.float32(max(np.abs(w).mean(dtype=np.float64), 1e-5))
    codes = np.rint(w * (np.float32(1) / scale)).clip(-1, 1).astype(np.int8)
    return codes, scale


def attention(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    scores = q @ k.swapaxes(-1, -2)
    scores *= np.float32(1 / np.sqrt(q.shape[-1]))
    scores -= scores.max(axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    out = scores @ v
    out /= scores.sum(axis=-1, keepdims=True)
    return out
