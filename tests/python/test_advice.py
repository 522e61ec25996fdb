# SPDX-License-Identifier: Apache-2.0
"""Patterns, advice with reasons, and what is counted."""

import time

import numpy as np
import pytest

import switchyard as sy


def heads(hq=40, hkv=8, lq=32, lkv=None, d=64):
    lkv = lq if lkv is None else lkv
    return (
        np.zeros((1, hq, lq, d), np.float32),
        np.zeros((1, hkv, lkv, d), np.float32),
        np.zeros((1, hkv, lkv, d), np.float32),
    )


def test_patterns_count_heads_in_memory():
    q, k, v = heads()
    assert sy.AttentionConfig.of(q, k, v).pattern == "GQA-5:1"
    assert sy.AttentionConfig.of(*heads(8, 8)).pattern == "MHA"
    assert sy.AttentionConfig.of(*heads(8, 1)).pattern == "MQA"
    one = np.broadcast_to(k[:, :1], (1, 40, 32, 64))
    config = sy.AttentionConfig.of(q, one, one)
    assert config.expanded and config.pattern == "MQA"
    assert sy.AttentionConfig.of(q, one, q).pattern == "MHA"


def test_layouts_are_seen():
    blhd = np.zeros((1, 32, 8, 64), np.float16).transpose(0, 2, 1, 3)
    config = sy.AttentionConfig.of(blhd, blhd, blhd, causal=True)
    assert config.blhd and config.dtype == "f16" and config.causal is True
    with pytest.raises(sy.InputError, match=r"\[batch, heads"):
        sy.AttentionConfig.of(blhd[0], blhd, blhd)
    with pytest.raises(sy.InputError, match="float64"):
        sy.AttentionConfig.of(*(x.astype(np.float64) for x in heads()))


@pytest.mark.parametrize(
    ("thresholds", "reason"),
    [
        ({"min_seq_len": 64}, "sequence length 32 below threshold 64"),
        ({"max_seq_len": 16}, "sequence length 32 above threshold 16"),
        ({"gqa_ratio_min": 8}, "GQA ratio 5 below threshold 8"),
        ({"min_heads": 64}, "head count 40 below threshold 64"),
    ],
)
def test_thresholds(engine, thresholds, reason):
    advisor = sy.AttentionAdvisor(engine, **thresholds)
    assert advisor.should_optimize(sy.AttentionConfig.of(*heads())) == (False, reason)
    (kind,) = thresholds
    assert advisor.status()["declined"] == {kind: 1}


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"requires_grad": True}, "requires_grad"),
        ({"dropout": 0.5}, "dropout"),
        ({"causal": "causal", "kv_len": 48}, "ambiguous_causal"),
        ({"q_len": 0}, "too_little_work"),
        ({"kv_heads": 7}, "invalid"),
    ],
)
def test_what_is_not_offered(engine, changes, kind):
    config = sy.AttentionConfig(**({"q_heads": 40, "kv_heads": 8, "q_len": 32} | changes))
    advice = sy.AttentionAdvisor(engine).advise(config)
    assert not advice.optimize and advice.kind == kind and advice.reason


def test_the_hosts_own_times_decide(engine):
    if len(engine.backends()) < 2:
        pytest.skip("only the reference is loaded")
    advisor = sy.AttentionAdvisor(engine)
    config = sy.AttentionConfig.of(*heads(lq=512), causal=True)
    until = time.monotonic() + 60
    while (advice := advisor.advise(config)).kind == "not_verified_yet":
        assert time.monotonic() < until
        time.sleep(0.1)
    advisor.reset_status()
    advice = advisor.advise(config)
    assert advice.optimize and advice.expected_ms > 0 and advice.kernel in advice.reason
    for _ in range(3):
        advisor.observe(config, 1e-6)
    assert advisor.observed(config)
    optimize, reason = advisor.should_optimize(config)
    assert not optimize and "the host's own takes" in reason
    status = advisor.status()
    assert status["asked"] == 2 and status["optimized"] == 1 and status["rate"] == 0.5
    assert status["declined"] == {"host_as_fast": 1} and status["patterns"] == {"GQA-5:1": 2}
    advisor.reset_status()
    assert advisor.status()["asked"] == 0


def test_models():
    models = sy.attention_models()
    assert {"qwen3-14b", "llama-3-8b", "mistral-7b", "gemma-2b", "phi-3-mini", "deepseek-v3"} <= set(
        models
    )
    assert models["qwen3-14b"].config(1, 4096).pattern == "GQA-5:1"
    assert models["deepseek-v3"].config(8).value_dim == 128


def test_wrong_arguments(engine):
    with pytest.raises(sy.InputError):
        sy.AttentionAdvisor(engine, min_seq_len=-1)
    with pytest.raises(sy.InputError, match="causal"):
        _ = sy.AttentionConfig(q_heads=1, kv_heads=1, q_len=1, causal="up").pattern
