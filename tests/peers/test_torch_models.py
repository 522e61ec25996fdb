# SPDX-License-Identifier: Apache-2.0
"""Models of the transformers library with and without switchyard.torch: outputs equal within bounds,
greedy generation token for token."""

import sys
import time
from pathlib import Path

import pytest
import torch

import switchyard as sy
import switchyard.torch  # noqa: F401

transformers = pytest.importorskip("transformers")
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

import torch_models  # noqa: E402

MODELS = torch_models.models()
transformers.logging.set_verbosity_error()


@pytest.fixture(scope="module")
def engine():
    """One thread: what is tested here is not speed."""
    torch.set_num_threads(1)
    return sy.Engine(threads=1, cache_dir="")


@pytest.fixture(scope="module", params=MODELS, ids=lambda name: name.partition(",")[0])
def model(request):
    make, _ = MODELS[request.param]
    return make()


@pytest.fixture()
def attention(engine):
    return sy.torch.Attention(engine, min_seq_len=16, min_work_us=0, compare=False)


def settled(attention, run):
    """run() in the block, again until no kernel's verification is pending; its latest answer."""
    for _ in range(100):
        attention.reset_status()
        with attention:
            answer = run()
        if "not_verified_yet" not in attention.status()["reasons"]:
            break
        time.sleep(0.1)
    return answer


@pytest.mark.parametrize("length", [17, 64, 300])
def test_outputs_are_equal_within_bounds(model, attention, length):
    ids = torch_models.tokens(length, model.config.vocab_size)
    want = torch_models.hidden(model, ids)
    got = settled(attention, lambda: torch_models.hidden(model, ids))
    layers = model.config.num_hidden_layers
    status = attention.status()
    assert (status["optimized"], status["calls"]) == (layers, layers), status
    torch_models.check(got, want)


def test_padded_batches(model, attention):
    vocabulary = model.config.vocab_size
    ids = torch.cat([torch_models.tokens(60, vocabulary), torch_models.tokens(60, vocabulary)])
    padding = torch.ones_like(ids)
    padding[1, :25] = 0  # on the left, as for generation
    with torch.no_grad():
        base = getattr(model, "model", model)
        want = base(ids, attention_mask=padding).last_hidden_state
        got = settled(attention, lambda: base(ids, attention_mask=padding).last_hidden_state)
    real = padding.bool()
    torch_models.check(got[real], want[real])
    assert attention.status()["optimized"] == model.config.num_hidden_layers


@pytest.mark.parametrize("length", [40, 280])
def test_greedy_generation_is_token_identical(model, engine, length):
    if not hasattr(model, "lm_head"):
        pytest.skip("an encoder generates nothing")
    ids = torch_models.tokens(length, model.config.vocab_size)
    options = dict(max_new_tokens=24, do_sample=False, pad_token_id=0, eos_token_id=None)
    want = model.generate(ids, **options)
    assert want.shape == (1, length + 24)
    attention = sy.torch.Attention(engine, min_seq_len=16, min_work_us=0, compare=False)
    got = settled(attention, lambda: model.generate(ids, **options))
    assert torch.equal(got, want)
    status = attention.status()
    assert status["optimization_rate"] == 1.0, status
    with sy.torch.patch(engine, min_seq_len=16, min_work_us=0) as patch:  # and where it compares
        assert torch.equal(model.generate(ids, **options), want)
    assert patch.status()["calls"] == status["calls"]


def test_bf16_stays_close(model, attention):
    half = type(model)(model.config).eval()
    half.load_state_dict(model.state_dict())
    half.bfloat16()
    ids = torch_models.tokens(90, model.config.vocab_size)
    want = torch_models.hidden(model, ids)
    got = settled(attention, lambda: torch_models.hidden(half, ids)).float()
    plain = torch_models.hidden(half, ids).float()
    assert attention.status()["optimized"] > 0
    assert (got - want).norm() <= 1.2 * (plain - want).norm()  # no worse than torch's bf16


def test_quantised_models_still_speak(engine):
    model = torch_models.decoder("Llama", num_key_value_heads=2)
    ids = torch_models.tokens(50, 1000)
    with torch.no_grad():
        want = model(ids).logits
        report = sy.torch.quantize_linear(model, "QUALITY_8BIT", engine=engine)
        got = model(ids).logits
    assert report.quantized == 4 * 7 + 1 and report.bytes_after < 0.3 * report.bytes_before
    assert (got - want).norm() < 0.02 * want.norm()
    with sy.torch.patch(engine), torch.no_grad():
        assert (model(ids).logits - got).abs().max() < 1e-3 * got.abs().max()
