# SPDX-License-Identifier: Apache-2.0
"""switchyard.torch: scaled_dot_product_attention handed over, left alone, and given back."""

import logging
import threading
import time
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch.nn.attention.bias import causal_lower_right, causal_upper_left
from torch.nn.functional import scaled_dot_product_attention as captured

import switchyard as sy
import switchyard.torch  # noqa: F401

@pytest.fixture(scope="module")
def engine():
    """One thread: what is tested here is not speed."""
    torch.set_num_threads(1)
    engine = sy.Engine(threads=1, cache_dir="")
    attention = sy.torch.Attention(engine, min_seq_len=0, min_work_us=0, compare=False)
    for lengths in ((96, 96), (96, 30), (80, 80)):  # the sizes of the tests below are verified
        same(attention, "MHA", *tensors(hkv=8, lq=lengths[0], lkv=lengths[1]))
    same(attention, "GQA-4:1", *tensors(), enable_gqa=True, is_causal=True)
    same(attention, "GQA-5:1", *tensors(b=1, hq=10), enable_gqa=True, is_causal=True)
    same(attention, "MHA", *tensors(hq=4, hkv=4, lq=80, lkv=80, d=8))
    return engine


OWN = {"torch": F.scaled_dot_product_attention}  # a module's own name would be patched too
LIMITS = {torch.float32: 2e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}


def original(*args, **kwargs):
    return OWN["torch"](*args, **kwargs)


def is_original(function):
    return function is OWN["torch"]


@pytest.fixture(autouse=True)
def nothing_is_left_behind(engine):
    yield
    assert is_original(F.scaled_dot_product_attention) and is_original(captured)
    assert torch._C._len_torch_function_stack() == 0
    assert not sy.torch.status()["active"]


@pytest.fixture()
def attention(engine):
    """Takes whatever it can, whoever is faster."""
    return sy.torch.Attention(engine, min_seq_len=0, min_work_us=0, compare=False)


def tensors(b=2, hq=8, hkv=2, lq=96, lkv=96, d=32, dtype=torch.float32, dv=None):
    rng = torch.Generator().manual_seed(1)
    shapes = [(b, hq, lq, d), (b, hkv, lkv, d), (b, hkv, lkv, dv or d)]
    return [torch.randn(s, generator=rng).to(dtype) for s in shapes]


def same(attention, pattern, *args, **kwargs):
    """The block's answer is torch's, in value, type and layout; and it was not torch's."""
    want = original(*args, **kwargs)
    before = attention.status()["optimized"]
    for _ in range(600):  # until kernels are verified
        with attention:
            got = F.scaled_dot_product_attention(*args, **kwargs)
        status = attention.status()
        if status["optimized"] > before or set(status["reasons"]) != {"not_verified_yet"}:
            break
        time.sleep(0.05)
    assert status["optimized"] == before + 1, status["reasons"]
    assert status["patterns"][pattern] >= 1
    assert got.dtype == want.dtype and got.shape == want.shape
    assert torch.allclose(got.float(), want.float(), atol=LIMITS[got.dtype], rtol=1e-2)
    return got


@pytest.mark.parametrize("dtype", LIMITS, ids=str)
@pytest.mark.parametrize("lengths", [(96, 96), (40, 130), (1, 200), (130, 40)])
@pytest.mark.parametrize(
    ("heads", "pattern"), [((4, 4), "MHA"), ((10, 2), "GQA-5:1"), ((6, 1), "MQA")]
)
def test_heads_and_lengths(attention, dtype, lengths, heads, pattern):
    q, k, v = tensors(hq=heads[0], hkv=heads[1], lq=lengths[0], lkv=lengths[1], dtype=dtype)
    for causal in (False, True):  # torch's is_causal is top-left
        same(attention, pattern, q, k, v, is_causal=causal, enable_gqa=heads[0] != heads[1])


def test_scales_value_dims_and_positions(attention):
    q, k, v = tensors(hkv=8, dv=48)
    same(attention, "MHA", q, k, v, scale=0.3)
    same(attention, "MHA", q, k, v, None, 0.0, True)


def test_masks(attention):
    q, k, v = tensors()
    rng = torch.Generator().manual_seed(2)
    for shape in ((96, 96), (2, 1, 96, 96), (2, 8, 96, 96), (1, 1, 1, 96)):
        seen = torch.rand(shape, generator=rng) < 0.7
        seen[..., 0] = True
        same(attention, "GQA-4:1", q, k, v, attn_mask=seen, enable_gqa=True)
        added = torch.randn(shape, generator=rng).masked_fill(~seen, float("-inf"))
        same(attention, "GQA-4:1", q, k, v, attn_mask=added, enable_gqa=True)


@pytest.mark.parametrize("bias", [causal_upper_left, causal_lower_right])
@pytest.mark.parametrize("lengths", [(96, 96), (40, 130)])
def test_causal_biases(attention, bias, lengths):
    q, k, v = tensors(hkv=8, lq=lengths[0], lkv=lengths[1])
    same(attention, "MHA", q, k, v, bias(*lengths))


def test_three_dimensions_and_strides(attention):
    q, k, v = (x[0] for x in tensors(hkv=8))
    same(attention, "MHA", q, k, v, is_causal=True)
    q, k, v = (x.transpose(1, 2).contiguous().transpose(1, 2) for x in tensors())
    got = same(attention, "GQA-4:1", q, k, v, enable_gqa=True)
    assert got.transpose(1, 2).is_contiguous()  # as torch lays it out


def test_captured_references_are_seen(attention):
    q, k, v = tensors(hkv=8)
    with attention:
        captured(q, k, v)
        torch.nn.MultiheadAttention(32, 4, batch_first=True).eval()
    assert attention.status()["optimized"] == 1


def left(attention, reason, *args, context=None, **kwargs):
    """torch answers, and the reason is counted."""
    before = attention.status()["reasons"].get(reason, 0)
    with attention:
        out = F.scaled_dot_product_attention(*args, **kwargs)
    assert attention.status()["reasons"].get(reason, 0) == before + 1, attention.status()
    return out


def test_what_is_left_to_torch(attention, engine):
    q, k, v = tensors(hkv=8)
    wanting = q.clone().requires_grad_()
    out = left(attention, "requires_grad", wanting, k, v)
    out.sum().backward()
    assert wanting.grad.abs().max() > 0
    with torch.no_grad():
        same(attention, "MHA", wanting, k, v)
    left(attention, "dropout", q, k, v, dropout_p=0.5)
    left(attention, "dtype", q.double(), k.double(), v.double())
    left(attention, "rank", q[:, :, None], k[:, :, None], v[:, :, None])
    left(attention, "tensor subclass", torch.nn.Buffer(q).as_subclass(Tagged), k, v)
    left(attention, "device", *(x.to("meta") for x in (q, k, v)))
    left(attention, "empty", q[:, :, :0], k, v)
    with torch.autocast("cpu", torch.bfloat16):
        assert left(attention, "autocast", q, k, v).dtype == torch.bfloat16
    with pytest.raises(RuntimeError):  # torch's own complaint
        left(attention, "heads", q, k[:, :3], v[:, :3])
    with pytest.raises(RuntimeError):
        left(attention, "ambiguous causal", q, k, v, torch.ones(96, 96, dtype=bool), is_causal=True)
    limited = sy.torch.Attention(engine, min_seq_len=100, compare=False)
    left(limited, "min_seq_len", q, k, v)
    assert limited.status()["optimization_rate"] == 0.0


class Tagged(torch.Tensor):
    pass


def test_transforms_and_tracers_get_torch(attention):
    q, k, v = tensors(hkv=8)
    want = torch.stack([original(q[i : i + 1], k[i : i + 1], v[i : i + 1]) for i in range(2)])
    with attention:
        got = torch.vmap(lambda a, b, c: F.scaled_dot_product_attention(a[None], b[None], c[None]))(
            q, k, v
        )
    assert torch.allclose(got, want, atol=1e-5)
    assert attention.status()["reasons"]["transform"] == 1
    with attention:
        traced = torch.jit.trace(lambda a, b, c: F.scaled_dot_product_attention(a, b, c), (q, k, v))
    assert "scaled_dot_product_attention" in str(traced.graph)


def test_an_exception_restores(attention):
    q, k, v = tensors(hkv=8)
    with pytest.raises(ZeroDivisionError), attention:
        F.scaled_dot_product_attention(q, k, v)
        1 / 0
    with pytest.raises(ZeroDivisionError), sy.torch.patch(compare=False):
        assert not is_original(F.scaled_dot_product_attention)
        1 / 0


def test_blocks_nest_and_the_innermost_decides(engine):
    q, k, v = tensors(hkv=8)
    outer, inner = (sy.torch.Attention(engine, min_seq_len=0, min_work_us=0, compare=False) for _ in range(2))
    with outer:
        F.scaled_dot_product_attention(q, k, v)
        with inner:
            F.scaled_dot_product_attention(q, k, v)
            with outer, inner:
                F.scaled_dot_product_attention(q, k, v)
        F.scaled_dot_product_attention(q, k, v)
    assert (outer.status()["calls"], inner.status()["calls"]) == (2, 2)
    declines = sy.torch.Attention(engine, min_seq_len=1 << 20)
    with outer, declines:  # what the inner one leaves to torch goes to whoever stands outside
        F.scaled_dot_product_attention(q, k, v)
    assert (outer.status()["calls"], declines.status()["calls"]) == (3, 1)


def test_a_block_is_of_its_thread(attention):
    q, k, v = tensors(hkv=8)
    inside = []

    def elsewhere():
        F.scaled_dot_product_attention(q, k, v)
        inside.append(torch._C._len_torch_function_stack())

    with attention:
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
    assert inside == [0] and attention.status()["calls"] == 0


def test_many_threads_through_one_object(attention):
    q, k, v = tensors()
    want = original(q, k, v, enable_gqa=True, is_causal=True)
    wrong = []

    def work():
        try:
            for _ in range(20):
                with attention:
                    got = F.scaled_dot_product_attention(q, k, v, enable_gqa=True, is_causal=True)
                assert torch.allclose(got, want, atol=2e-5)
        except BaseException as error:
            wrong.append(error)

    team = [threading.Thread(target=work) for _ in range(4)]
    for thread in team:
        thread.start()
    for thread in team:
        thread.join()
    assert not wrong and attention.status()["optimized"] == 80


def test_patch_reaches_every_thread_and_module(engine, monkeypatch):
    q, k, v = tensors(hkv=8)
    module = sy.torch.patch(engine, min_seq_len=0, min_work_us=0, compare=False)
    try:
        assert not is_original(F.scaled_dot_product_attention)
        assert captured is F.scaled_dot_product_attention  # this module's global
        thread = threading.Thread(target=F.scaled_dot_product_attention, args=(q, k, v))
        thread.start()
        thread.join()
        captured(q, k, v)
        model = torch.nn.MultiheadAttention(32, 4, batch_first=True)
        x = torch.randn(2, 80, 32)
        with torch.no_grad():
            model(x, x, x, need_weights=False)
        assert module.status()["active"] and module.status()["optimized"] == 3, module.status()
        assert sy.torch.status() == module.status()
        kept = F.scaled_dot_product_attention
    finally:
        sy.torch.unpatch()
    assert torch.equal(kept(q, k, v), original(q, k, v))  # whoever kept it has torch's again
    assert module.status()["optimized"] == 3 and not module.status()["active"]
    sy.torch.unpatch()  # nothing to do


def test_patches_nest(engine):
    q, k, v = tensors(hkv=8)
    first = sy.torch.patch(engine, min_seq_len=0, min_work_us=0, compare=False)
    second = sy.torch.patch(engine, min_seq_len=0, min_work_us=0, compare=False)
    F.scaled_dot_product_attention(q, k, v)
    first.unpatch()  # in any order
    F.scaled_dot_product_attention(q, k, v)
    assert (first.status()["calls"], second.status()["calls"]) == (0, 2)
    with sy.torch.Attention(engine, min_seq_len=0, min_work_us=0, compare=False) as block:
        F.scaled_dot_product_attention(q, k, v)
    assert second.status()["calls"] == 3  # outside of the block's view: the name is ours
    second.unpatch()
    assert block.status()["calls"] == 0


def test_compiled_functions_stay_whole(engine):
    q, k, v = tensors(hkv=8)
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    with sy.torch.patch(engine, min_seq_len=0, min_work_us=0):
        compiled = torch.compile(
            lambda a, b, c: F.scaled_dot_product_attention(a, b, c) + 1, backend=backend,
            fullgraph=True,
        )
        assert torch.allclose(compiled(q, k, v), original(q, k, v) + 1, atol=2e-5)
    assert len(graphs) == 1


def test_comparing_keeps_the_faster(engine, monkeypatch):
    q, k, v = tensors(b=1, hkv=8)
    attention = sy.torch.Attention(engine, min_seq_len=0, min_work_us=0, compare=True)
    clock = iter([0, 1, 3] * 3 + [0, 5, 6] * 3)  # Switchyard 1 s, torch 2 s; then 5 s and 1 s
    fake = SimpleNamespace(perf_counter=lambda: next(clock))
    monkeypatch.setattr("switchyard._torch_attention.time", fake)
    with attention:
        for _ in range(5):
            F.scaled_dot_product_attention(q, k, v)
        assert attention.status()["optimized"] == 5
        for _ in range(5):  # another class of sizes
            F.scaled_dot_product_attention(q, k[:, :, :30], v[:, :, :30])
    status = attention.status()
    assert status["optimized"] == 8 and status["reasons"] == {"torch is faster": 2}
    assert status["optimization_rate"] == 0.8
    attention.reset_status()
    assert attention.status()["calls"] == 0


def test_debug_words(engine, caplog):
    q, k, v = tensors(b=1, hq=10)
    short = tensors(b=1, hq=10, lq=32, lkv=32)
    with caplog.at_level(logging.DEBUG, "switchyard.torch"):
        with sy.torch.Attention(engine, min_work_us=0, compare=False, debug=True):
            F.scaled_dot_product_attention(q, k, v, enable_gqa=True, is_causal=True)
            F.scaled_dot_product_attention(*short, enable_gqa=True)
    applying, falling = (r.getMessage() for r in caplog.records)
    assert applying.startswith("Applying GQA-5:1: batch 1, 10 query heads over 2 key heads, 96")
    assert falling == "Falling back: sequence length 32 below threshold 64"


def test_an_error_of_the_engine_is_a_reason():
    q, k, v = tensors(hkv=8)
    engine = sy.Engine(cache_dir="", pin={"attention": "nobody"})
    attention = sy.torch.Attention(engine, min_seq_len=0, min_work_us=0, compare=False)
    with attention:
        got = F.scaled_dot_product_attention(q, k, v)
    assert torch.equal(got, original(q, k, v))
    assert attention.status()["optimized"] == 0 and attention.status()["calls"] == 1


def test_bad_arguments():
    for arguments in ({"engine": 3}, {"min_seq_len": -1}, {"min_heads": "x"}):
        with pytest.raises(ValueError):
            sy.torch.Attention(**arguments)
