# SPDX-License-Identifier: Apache-2.0
"""Caches from Python; what they compute is tested in tests/attention."""

import numpy as np
import pytest
from test_attention import reference

import switchyard as sy


def tokens(rng, n, hq=6, hkv=2, d=64, dtype=np.float32):
    make = lambda heads: rng.standard_normal((1, heads, n, d)).astype(dtype)  # noqa: E731
    return make(hq), make(hkv), make(hkv)


def seen(n, capacity=None, keep=0):
    p, j = np.arange(n)[:, None], np.arange(n)
    causal = j <= p
    return causal if capacity is None else causal & ((j < keep) | (p - j < capacity - keep))


@pytest.mark.parametrize("kind", ["contiguous", "rotating", "paged"])
@pytest.mark.parametrize(("format", "bound"), [("plain", 2e-5), ("q8", 0.02), ("q4", 0.3)])
def test_decoding_equals_masked_attention(engine, rng, kind, format, bound):
    options = dict(capacity=20, keep=2) if kind == "rotating" else {}
    cache = sy.KVCache(engine, kv_heads=2, head_dim=64, kind=kind, format=format, **options)
    q, k, v = tokens(rng, 50)
    parts = [cache.update(q[:, :, :9], k[:, :, :9], v[:, :, :9])]
    for i in range(9, 50):
        parts.append(
            cache.update(q[:, :, i : i + 1], k[:, :, i : i + 1], v[:, :, i : i + 1])
        )
    assert len(cache) == 50 and cache.held <= 52
    want, _ = reference(q, k, v, visible=seen(50, **options))
    np.testing.assert_allclose(np.concatenate(parts, 2), want, atol=bound)


def test_append_attend_trim_lse_out(engine, rng):
    cache = sy.KVCache(engine, kv_heads=2, head_dim=64)
    q, k, v = tokens(rng, 30)
    cache.append(k, v)
    out = np.empty((1, 6, 4, 64), np.float32)
    o, lse = cache.attend(q[:, :, -4:], return_lse=True, out=out)
    want, want_lse = reference(q[:, :, -4:], k, v, visible=seen(30)[-4:])
    assert o is out
    np.testing.assert_allclose(o, want, atol=2e-5)
    np.testing.assert_allclose(lse, want_lse, atol=2e-5)
    assert sy.last_run().kernel
    cache.trim(10)
    assert len(cache) == 20 and cache.trimmable == 20
    o = cache.attend(q[:, :, 19:20], window=5)
    want, _ = reference(q[:, :, 19:20], k[:, :, 15:20], v[:, :, 15:20])
    np.testing.assert_allclose(o, want, atol=2e-5)


def test_forks_share_pages_and_attend_together(engine, rng):
    budget = sy.KVBudget()
    cache = sy.KVCache(
        engine, kv_heads=2, head_dim=64, kind="paged", page_size=16, budget=budget
    )
    q, k, v = tokens(rng, 40)
    cache.append(k[:, :, :33], v[:, :, :33])
    fork = cache.fork()
    assert fork.memory()["shared"] == fork.memory()["used"] > 0
    fork.append(k[:, :, 33:], v[:, :, 33:])
    other = cache.sibling()
    other.append(k[:, :, :5], v[:, :, :5])
    lengths = [33, 40, 5]
    together = sy.KVCache.attend_all(
        [cache, fork, other], np.concatenate([q[:, :, n - 1 : n] for n in lengths])
    )
    for row, n in zip(together, lengths):
        want, _ = reference(q[:, :, n - 1 : n], k[:, :, :n], v[:, :, :n])
        np.testing.assert_allclose(row[None], want, atol=2e-5)
    assert budget.used == cache.memory()["reserved"] <= budget.peak
    copy = cache.copy()
    np.testing.assert_array_equal(copy.read(3, 7)[0], k[:, :, 3:10])


def test_save_and_load(engine, rng, tmp_path):
    shape = dict(kv_heads=2, head_dim=64, kind="rotating", format="q8", capacity=16)
    cache = sy.KVCache(engine, **shape)
    q, k, v = tokens(rng, 40)
    cache.append(k[:, :, :39], v[:, :, :39])
    cache.save(tmp_path / "cache", key="prompt")
    loaded = sy.KVCache.load(engine, tmp_path / "cache", key="prompt", **shape)
    last = (q[:, :, 39:], k[:, :, 39:], v[:, :, 39:])
    np.testing.assert_allclose(loaded.update(*last), cache.update(*last), atol=1e-6)
    with pytest.raises(sy.InputError, match="key"):
        sy.KVCache.load(engine, tmp_path / "cache", **shape)
    with pytest.raises(sy.InputError, match="capacity"):
        sy.KVCache.load(engine, tmp_path / "cache", key="prompt", **(shape | {"capacity": 17}))
    data = bytearray((tmp_path / "cache").read_bytes())
    data[-100] ^= 1
    (tmp_path / "cache").write_bytes(data)
    with pytest.raises(sy.Error, match="checksum"):
        sy.KVCache.load(engine, tmp_path / "cache", key="prompt", **shape)


def test_budget_is_a_cap(engine, rng):
    budget = sy.KVBudget(1 << 16)
    cache = sy.KVCache(engine, kv_heads=2, head_dim=64, budget=budget)
    _, k, v = tokens(rng, 40)
    with pytest.raises(sy.Error, match="budget") as caught:
        for _ in range(10):
            cache.append(k, v)
    assert caught.value.code == "out_of_memory"
    assert len(cache) % 40 == 0 and budget.used <= budget.cap


def test_wrong_arguments(engine, rng):
    for wrong in (
        dict(kind="ring"),
        dict(format="q5"),
        dict(kind="rotating"),
        dict(kind="rotating", capacity=4, keep=4),
        dict(keep=1),
        dict(kind="paged", batch=2),
        dict(dtype="f64"),
        dict(budget=5),
    ):
        with pytest.raises(sy.InputError):
            sy.KVCache(engine, **(dict(kv_heads=2, head_dim=64) | wrong))
    with pytest.raises(sy.InputError):
        sy.KVCache(engine, kv_heads=2, head_dim=40, format="q8")
    cache = sy.KVCache(engine, kv_heads=2, head_dim=64, format="q8")
    q, k, v = tokens(rng, 4)
    with pytest.raises(sy.InputError):
        cache.append(k[..., :32], v)
    with pytest.raises(sy.InputError):
        cache.attend(q)
    k[0, 0, 0, 0] = np.nan
    with pytest.raises(sy.InputError, match="k cannot be kept as q8_0"):
        cache.update(q, k, v)
    assert len(cache) == 0


def test_engine_attention_alibi_lengths_and_pages(engine, rng):
    q = rng.standard_normal((2, 4, 1, 32), np.float32)
    k, v = (rng.standard_normal((2, 2, 12, 32), np.float32) for _ in range(2))
    lengths = np.array([12, 7], np.int32)
    slopes = np.array([0.5, 0.25, 0.1, 0.05], np.float32)
    got = engine.attention(q, k, v, kv_lengths=lengths, alibi=slopes)
    for b, n in enumerate(lengths):
        add = slopes[None, :, None, None] * (np.arange(n) - (n - 1))
        want, _ = reference(q[b : b + 1], k[b : b + 1, :, :n], v[b : b + 1, :, :n], add=add)
        np.testing.assert_allclose(got[b : b + 1], want, atol=2e-5)
    table = np.array([[5, 1, 3], [0, 4, -1]], np.int32)
    pages_k, pages_v = (np.full((6, 2, 4, 32), np.nan, np.float32) for _ in range(2))
    for b, n in enumerate(lengths):
        for j in range(n):
            pages_k[table[b, j // 4], :, j % 4] = k[b, :, j]
            pages_v[table[b, j // 4], :, j % 4] = v[b, :, j]
    paged = engine.attention(
        q, pages_k, pages_v, kv_lengths=lengths, alibi=slopes, block_table=table
    )
    np.testing.assert_allclose(paged, got, atol=2e-5)
    kept = engine.attention(q, k, v, causal=True, window=3, keep=2)
    visible = np.isin(np.arange(12), [0, 1, 9, 10, 11])
    np.testing.assert_allclose(kept, reference(q, k, v, visible=visible)[0], atol=2e-5)
    with pytest.raises(sy.InputError, match="kv_lengths"):
        engine.attention(q, pages_k, pages_v, block_table=table)
    with pytest.raises(sy.InputError, match=r"block_table\[0, 1\]"):
        table[0, 1] = 6
        engine.attention(q, pages_k, pages_v, kv_lengths=lengths, block_table=table)
