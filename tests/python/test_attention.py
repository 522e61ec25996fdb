# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

import switchyard as sy


def reference(q, k, v, *, visible=None, add=None, scale=None, softcap=None, sinks=None):
    """float64 attention; returns output and log-sum-exp."""
    q, k, v = (np.asarray(a, np.float64) for a in (q, k, v))
    group = q.shape[1] // k.shape[1]
    k, v = np.repeat(k, group, 1), np.repeat(v, group, 1)
    s = q @ k.swapaxes(-1, -2) * (q.shape[-1] ** -0.5 if scale is None else scale)
    if softcap:
        s = softcap * np.tanh(s / softcap)
    if add is not None:
        s = s + add
    if visible is not None:
        s = np.where(visible, s, -np.inf)
    if sinks is not None:
        s = np.concatenate([s, np.broadcast_to(sinks[:, None, None], (*s.shape[:3], 1))], -1)
    top = s.max(-1, keepdims=True, initial=-np.inf)
    with np.errstate(invalid="ignore"):
        p = np.exp(s - np.where(np.isfinite(top), top, 0))
    total = p.sum(-1, keepdims=True)
    with np.errstate(divide="ignore"):
        lse = (np.log(total) + np.where(np.isfinite(top), top, 0))[..., 0]
    p = p[..., : v.shape[2]] / np.where(total == 0, 1, total)
    return p @ v, lse


def heads(rng, b=2, hq=4, hkv=2, lq=9, lkv=13, dk=16, dv=16, dtype=np.float32):
    make = lambda *shape: rng.standard_normal(shape).astype(dtype)  # noqa: E731
    return make(b, hq, lq, dk), make(b, hkv, lkv, dk), make(b, hkv, lkv, dv)


def band(lq, lkv, window=None, top_left=False):
    i = np.arange(lq)[:, None] + (0 if top_left else lkv - lq)
    j = np.arange(lkv)
    seen = j <= i
    return seen if window is None else seen & (j > i - window)


def close(got, want, bound=2e-5):
    assert got.shape == want.shape
    np.testing.assert_allclose(got.astype(np.float64), want, atol=bound, rtol=bound)


def test_plain(engine, rng):
    q, k, v = heads(rng)
    o = engine.attention(q, k, v)
    assert o.dtype == np.float32
    close(o, reference(q, k, v)[0])


@pytest.mark.parametrize("hkv", [1, 2, 4])
@pytest.mark.parametrize("dv", [8, 24])
def test_heads_and_value_dimensions(engine, rng, hkv, dv):
    q, k, v = heads(rng, hkv=hkv, dv=dv)
    close(engine.attention(q, k, v), reference(q, k, v)[0])


@pytest.mark.parametrize("causal", [True, "bottom_right", "top_left"])
@pytest.mark.parametrize("window", [None, 1, 4])
def test_causal_and_window(engine, rng, causal, window):
    q, k, v = heads(rng, lq=7, lkv=11)
    seen = band(7, 11, window, causal == "top_left")
    close(
        engine.attention(q, k, v, causal=causal, window=window), reference(q, k, v, visible=seen)[0]
    )


def test_bool_and_additive_masks_broadcast(engine, rng):
    q, k, v = heads(rng)
    seen = rng.random((9, 13)) > 0.4
    seen[:, 0] = True
    close(engine.attention(q, k, v, mask=seen), reference(q, k, v, visible=seen)[0])
    per_batch = rng.random((2, 1, 9, 13)) > 0.3
    close(engine.attention(q, k, v, mask=per_batch), reference(q, k, v, visible=per_batch)[0])
    add = rng.standard_normal((4, 1, 13)).astype(np.float32)
    close(engine.attention(q, k, v, mask=add), reference(q, k, v, add=add)[0])


def test_softcap_scale_sinks_lse(engine, rng):
    q, k, v = heads(rng)
    sinks = rng.standard_normal(4).astype(np.float32)
    o, lse = engine.attention(
        q, k, v, softcap=2.5, scale=0.7, sinks=sinks, return_lse=True, causal=True
    )
    want, want_lse = reference(
        q, k, v, softcap=2.5, scale=0.7, sinks=sinks, visible=band(9, 13)
    )
    close(o, want)
    assert lse.dtype == np.float32
    close(lse, want_lse)


def test_masked_rows_are_zero(engine, rng):
    q, k, v = heads(rng)
    seen = np.ones((9, 13), bool)
    seen[4] = False
    o, lse = engine.attention(q, k, v, mask=seen, return_lse=True)
    assert not o[:, :, 4].any()
    assert (lse[:, :, 4] == -np.inf).all() and np.isfinite(lse[:, :, 3]).all()


def test_half_precision(engine, rng):
    q, k, v = heads(rng, dtype=np.float16)
    o = engine.attention(q, k, v, causal=True)
    assert o.dtype == np.float16
    close(o, reference(q, k, v, visible=band(9, 13))[0], 5e-3)


def test_strides(engine, rng):
    """[batch, length, heads, dim] in memory, odd steps, reversed lengths."""
    q, k, v = heads(rng, lq=8, lkv=12)
    want = engine.attention(q, k, v)

    def spread(x):
        b, h, length, d = x.shape
        base = np.zeros((b, 2 * length, h, d), x.dtype)
        view = base[:, ::2].transpose(0, 2, 1, 3)
        view[...] = x
        return view

    close(engine.attention(spread(q), spread(k), spread(v)), want, 2e-6)
    reverse = (slice(None), slice(None), slice(None, None, -1))
    close(engine.attention(q[reverse], k[reverse], v[reverse]), want[reverse], 2e-6)


def test_output_given(engine, rng):
    q, k, v = heads(rng)
    want = engine.attention(q, k, v)
    base = np.full((2, 9, 5, 16), 7, np.float32)
    out = base.transpose(0, 2, 1, 3)[:, :4]
    assert engine.attention(q, k, v, out=out) is out
    close(out, want, 1e-6)
    assert (base[:, :, 4] == 7).all()
    o, lse = engine.attention(q, k, v, out=out, return_lse=True)
    assert o is out and lse.shape == (2, 4, 9)


def test_no_keys(engine, rng):
    q, k, v = heads(rng, lkv=0)
    o, lse = engine.attention(q, k, v, return_lse=True)
    assert not o.any() and (lse == -np.inf).all()


@pytest.mark.parametrize(
    ("change", "codes"),
    [
        (dict(k=np.zeros((2, 3, 13, 16), np.float32)), {"shape"}),
        (dict(k=np.zeros((2, 2, 13, 8), np.float32)), {"shape"}),
        (dict(v=np.zeros((2, 2, 12, 16), np.float32)), {"shape"}),
        (dict(q=np.zeros((4, 9, 16), np.float32)), {"shape"}),
        (dict(q=np.zeros((2, 4, 9, 16))), {"dtype"}),
        (dict(k=np.zeros((2, 2, 13, 16), np.float16)), {"dtype"}),
        (dict(mask=np.ones((8, 13), bool)), {"shape"}),
        (dict(mask=np.ones((9, 13), np.int32)), {"dtype"}),
        (dict(sinks=np.ones(3, np.float32)), {"shape"}),
        (dict(window=0), {"invalid_argument"}),
        (dict(softcap=-1), {"invalid_argument"}),
        (dict(scale=np.inf), {"invalid_argument"}),
        (dict(causal="middle"), {"invalid_argument"}),
        (dict(causal=2), {"invalid_argument"}),
        (dict(out=np.zeros((2, 4, 9, 15), np.float32)), {"shape"}),
        (dict(out=np.zeros((2, 4, 9, 16), np.float16)), {"dtype"}),
    ],
    ids=lambda v: ",".join(f"{k}={getattr(x, 'shape', x)}" for k, x in v.items())
    if isinstance(v, dict)
    else "",
)
def test_wrong_arguments(engine, rng, change, codes):
    q, k, v = heads(rng)
    arguments = dict(q=q, k=k, v=v) | change
    with pytest.raises(sy.InputError) as caught:
        engine.attention(**arguments)
    assert caught.value.code in codes


def ragged(rng, q_lengths, kv_lengths):
    offsets = [np.concatenate([[0], np.cumsum(n)]).astype(np.int32) for n in (q_lengths, kv_lengths)]
    q = rng.standard_normal((sum(q_lengths), 4, 16), np.float32)
    k, v = (rng.standard_normal((sum(kv_lengths), 2, 16), np.float32) for _ in range(2))
    return q, k, v, *offsets


@pytest.mark.parametrize("count", [1, 3, 20])
def test_ragged_sequences(engine, rng, count):
    q_lengths = [int(n) for n in rng.integers(0, 9, count)]
    kv_lengths = [n + int(rng.integers(0, 9)) for n in q_lengths]
    q, k, v, q_at, kv_at = ragged(rng, q_lengths, kv_lengths)
    o, lse = engine.attention_ragged(q, k, v, q_at, kv_at, causal=True, return_lse=True)
    assert o.shape == q.shape and lse.shape == q.shape[:2]
    for b in range(count):
        part = slice(q_at[b], q_at[b + 1])
        keys = slice(kv_at[b], kv_at[b + 1])
        if q_lengths[b] == 0:
            continue
        split = (x.swapaxes(0, 1)[None] for x in (q[part], k[keys], v[keys]))
        want, want_lse = reference(*split, visible=band(q_lengths[b], kv_lengths[b]))
        close(o[part], want[0].swapaxes(0, 1))
        close(lse[part], want_lse[0].T)


def test_ragged_arguments(engine, rng):
    q, k, v, q_at, kv_at = ragged(rng, [3, 4], [5, 6])
    out = np.empty_like(q)
    assert engine.attention_ragged(q, k, v, q_at, kv_at, out=out) is out
    for wrong in (
        (q, k, v, q_at[:2], kv_at),
        (q, k, v, q_at + 1, kv_at),
        (q, k, v, q_at[::-1].copy(), kv_at),
        (q[None], k, v, q_at, kv_at),
        (q, k, v[:-1], q_at, kv_at),
        (q, k, v, q_at.astype(np.int64), kv_at),
        (q, k[..., :8].copy(), v, q_at, kv_at),
    ):
        with pytest.raises(sy.InputError):
            engine.attention_ragged(*wrong)
    with pytest.raises(sy.InputError, match="causal"):
        engine.attention_ragged(q, k, v, q_at, kv_at, causal="up")
