# SPDX-License-Identifier: Apache-2.0
"""switchyard.torch.quantize_linear: smaller weights, known errors, models that still run."""

import copy
import pickle

import numpy as np
import pytest
import torch
from torch import nn

import switchyard as sy
import switchyard.torch
from switchyard.torch import QuantizedLinear, quantize_linear


@pytest.fixture(scope="module")
def engine():
    """One thread: what is tested here is not speed."""
    torch.set_num_threads(1)
    return sy.Engine(threads=1, cache_dir="")


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed_tokens = nn.Embedding(50, 128)
        self.q_proj = nn.Linear(128, 128)
        self.down_proj = nn.Linear(128, 96, bias=False)
        self.odd = nn.Linear(96, 33)
        self.odd_again = nn.Linear(33, 128)
        self.lm_head = nn.Linear(128, 50, bias=False)

    def forward(self, ids):
        x = self.q_proj(self.embed_tokens(ids)).relu()
        return self.lm_head(self.odd_again(self.odd(self.down_proj(x)).relu()))


@pytest.fixture()
def model():
    torch.manual_seed(0)
    return Block().eval()


IDS = torch.arange(20).reshape(2, 10)


def test_formats_by_recipe(model):
    with torch.no_grad():
        want = model(IDS)
    weights = {n: p.detach().clone() for n, p in model.named_parameters()}
    report = quantize_linear(model, "QUALITY_8BIT")
    formats = {layer.name: layer.format for layer in report.layers}
    assert formats == {
        "q_proj": "mlx_affine8",
        "down_proj": "mlx_affine8",
        "odd": "mlx_affine8",
        "odd_again": "",  # rows of 33 values fit no group
        "lm_head": "mlx_affine8",
    }
    kept = next(layer for layer in report.layers if layer.name == "odd_again")
    assert "33" in kept.rule and kept.bytes_before == kept.bytes_after == 33 * 128 * 4
    assert type(model.odd_again) is nn.Linear and type(model.embed_tokens) is nn.Embedding
    assert report.quantized == 4 and report.bytes_after < 0.45 * report.bytes_before
    for layer in report.layers:
        if not layer.format:
            continue
        module = model.get_submodule(layer.name)
        own = weights[f"{layer.name}.weight"]
        apart = (module.weight_values() - own).double()
        assert layer.max_error == pytest.approx(float(apart.abs().max()), rel=1e-6)
        assert layer.relative_error == pytest.approx(float(apart.norm() / own.double().norm()))
        assert 0 < layer.relative_error < 0.01
        assert layer.bytes_after == module.nbytes < 0.32 * layer.bytes_before
    with torch.no_grad():
        got = model(IDS)
    assert (got - want).abs().max() < 0.02 * want.abs().max()
    text = str(report)
    assert "q_proj" in text and "4 of 5 layers" in text


@pytest.mark.parametrize("format", ["q4_0", "q8_0", "mlx_affine4", "int8", "ternary", "mxfp4"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_every_kind_of_format_computes_with_its_restored_weight(format, dtype, engine):
    torch.manual_seed(1)
    linear = nn.Linear(64, 40).to(dtype)
    x = torch.randn(3, 5, 64).to(dtype)
    layer = QuantizedLinear.of(linear, format, engine)
    weight = engine.dequantize(layer.quantized, out=torch.empty(40, 64, dtype=dtype))
    with torch.no_grad():
        assert torch.equal(layer(x), nn.functional.linear(x, weight, linear.bias))
    assert layer(x).dtype == dtype and format in repr(layer)


def test_rules_formats_and_skips(model):
    report = quantize_linear(
        model,
        None,
        rules={"*down*": "q4_0", "lm_head*": False},
        format="q8_0",
        skip=["odd", "odd_again"],
    )
    assert {layer.name: layer.format for layer in report.layers} == {
        "q_proj": "q8_0",
        "down_proj": "q4_0",
        "odd": "",
        "odd_again": "",
        "lm_head": "",
    }
    assert quantize_linear(model, None, rules={"*": False}).quantized == 0  # the rest stays
    assert type(model.q_proj) is QuantizedLinear


def test_mixed_precision_spares_heads_and_down_projections(model):
    report = quantize_linear(model, "MIXED_PRECISION")
    formats = {layer.name: layer.format for layer in report.layers}
    assert formats["lm_head"] == "mlx_affine8" and formats["down_proj"] == "mlx_affine6"
    assert formats["q_proj"] == "mlx_affine4"


def test_tied_weights_are_kept(model):
    model.lm_head.weight = model.embed_tokens.weight
    report = quantize_linear(model, "SPEED_4BIT")
    head = next(layer for layer in report.layers if layer.name == "lm_head")
    assert head.format == "" and "shared" in head.rule
    assert model.lm_head.weight is model.embed_tokens.weight


def test_gradients_reach_inputs_and_biases(engine):
    torch.manual_seed(2)
    linear = nn.Linear(64, 32)
    layer = QuantizedLinear.of(linear, "q8_0", engine)
    x = torch.randn(4, 64, requires_grad=True)
    other = QuantizedLinear.of(nn.Linear(64, 32), "q8_0", engine)
    (layer(x) + other(x)).square().sum().backward()  # each keeps its own values for this
    weights = [m.weight_values() for m in (layer, other)]
    y = x.detach().clone().requires_grad_()
    sum(nn.functional.linear(y, w, m.bias) for w, m in zip(weights, (layer, other))).square().sum().backward()
    assert torch.allclose(x.grad, y.grad, atol=1e-5) and layer.bias.grad is not None


def test_state_dicts_copies_and_casts(model, engine):
    quantize_linear(model, "BALANCED_5BIT", engine=engine)
    with torch.no_grad():
        want = model(IDS)
        again = copy.deepcopy(model)
        assert torch.equal(again(IDS), want)
        assert torch.equal(pickle.loads(pickle.dumps(model))(IDS), want)
        state = {k: v.clone() for k, v in model.state_dict().items()}
        assert "q_proj.codes" in state and "q_proj.scales" in state
        again.q_proj.codes.zero_()
        assert not torch.equal(again(IDS), want)
        again.load_state_dict(state)
        assert torch.equal(again(IDS), want)
        scales = model.q_proj.scales.clone()
        model.bfloat16()
        assert torch.equal(model.q_proj.scales, scales) and model.q_proj.bias.dtype == torch.bfloat16
        assert (model(IDS).float() - want).abs().max() < 0.05 * want.abs().max()


def test_wrong_inputs(model, engine):
    for arguments in (
        {"recipe": "FASTEST"},
        {"recipe": None, "format": "q9_0"},
        {"recipe": None, "rules": {"odd.*": "q4_k"}},
    ):
        with pytest.raises(sy.InputError):
            quantize_linear(model, **arguments)
    with torch.no_grad():
        model.down_proj.weight[3, 4] = float("nan")
    with pytest.raises(sy.InputError, match="down_proj.weight") as caught:
        quantize_linear(model, "QUALITY_8BIT")
    assert caught.value.code == "nonfinite"
    layer = QuantizedLinear.of(nn.Linear(32, 32), "q8_0", engine)
    with pytest.raises(sy.InputError):
        layer(torch.zeros(2, 32, dtype=torch.float64))
    with pytest.raises(sy.InputError):
        QuantizedLinear(sy.Quantized("q8_0", (32,), blocks=np.zeros(34, np.uint8)))


def test_threads_have_memory_of_their_own(engine):
    import threading

    torch.manual_seed(3)
    layers = [QuantizedLinear.of(nn.Linear(256, 256), "q8_0", engine) for _ in range(4)]
    x = torch.randn(7, 256)
    with torch.no_grad():
        want = [layer(x) for layer in layers]
    wrong = []

    def work(i):
        with torch.no_grad():
            for _ in range(50):
                if not torch.allclose(layers[i](x), want[i], atol=1e-5):
                    wrong.append(i)

    team = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for t in team:
        t.start()
    for t in team:
        t.join()
    assert not wrong


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_fake_quantisation_passes_gradients_straight_through(dtype, engine):
    weight = torch.randn(48, 256).to(dtype).requires_grad_()
    x = torch.randn(5, 256).to(dtype)
    for format, options in (("q4_0", {}), ("mlx_affine4", {"group_size": 32}), ("ternary", {})):
        weight.grad = None
        rounded = switchyard.torch.fake_quantize(weight, format, engine=engine, **options)
        want = engine.dequantize(engine.quantize(weight.detach(), format, **options))
        assert rounded.dtype is dtype and torch.equal(rounded, want)
        torch.nn.functional.linear(x, rounded).sum().backward()
        torch.testing.assert_close(weight.grad, x.sum(0).expand(48, 256))
    columns = torch.randn(64, 48, dtype=dtype).t()
    want = engine.round_trip(columns.contiguous(), "q8_0")
    assert torch.equal(switchyard.torch.fake_quantize(columns, "q8_0", engine=engine), want)
