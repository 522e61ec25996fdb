// SPDX-License-Identifier: Apache-2.0
#include <switchyard/layers.hpp>

#include <switchyard/ops/activation.h>
#include <switchyard/ops/matmul.h>
#include <switchyard/ops/norm.h>
#include <switchyard/ops/rope.h>

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "facade/free_calls.hpp"
#include "io/strided.hpp"
#include "ops/quantize_formats.hpp"

namespace switchyard {
namespace {

/// A contiguous copy.
Result<Tensor> copied(const TensorView &x) {
  auto copy = Tensor::empty(x.dtype(), x.shape());
  if (!copy) return copy;
  auto *to = copy->data<std::byte>();
  auto ok = for_each_piece(x, [&](std::span<const std::byte> piece) -> Status {
    std::copy(piece.begin(), piece.end(), to);
    to += piece.size();
    return {};
  });
  if (!ok) return tl::unexpected(std::move(ok.error()));
  return copy;
}

Status check_rank(std::string_view name, const TensorView &t, int low, int high) {
  if (t.present() && t.rank() >= low && t.rank() <= high) return {};
  return fail(ErrorCode::shape,
              fmt::format("{} {}; it must have {}", name,
                          t.present() ? fmt::format("has {} dimensions", t.rank()) : "is missing",
                          low == high ? fmt::format("{} dimensions", low)
                                      : fmt::format("{} to {} dimensions", low, high)));
}

/// The weights of a product as its operation takes them.
struct Weights {
  TensorView codes, scales, biases;
  std::int64_t outputs = 0, inputs = 0;
  sy_matmul_params params{};
};

Result<Tensor> multiply(Engine &engine, const TensorView &x, Weights w, const MatmulOptions &o) {
  if (auto ok = check_rank("x", x, 1, SY_MAX_RANK); !ok) return tl::unexpected(ok.error());
  if (x.dim(x.rank() - 1) != w.inputs)
    return fail(ErrorCode::shape,
                fmt::format("x has shape {}: its last dimension must be {}, as the weights have {} "
                            "inputs and {} outputs",
                            shape_text(x.shape()), w.inputs, w.inputs, w.outputs));
  auto matrix = as_matrix(x);
  Tensor copy;
  if (!matrix) {
    auto made = copied(x);
    if (!made) return made;
    copy = std::move(*made);
    matrix = as_matrix(copy);
  }
  std::vector<std::int64_t> shape(x.shape().begin(), x.shape().end());
  shape.back() = w.outputs;
  const TensorView &out = o.output.out;
  if (out.present() && !std::ranges::equal(out.shape(), shape))
    return fail(ErrorCode::shape, fmt::format("out has shape {}, but the result has {}",
                                              shape_text(out.shape()), shape_text(shape)));
  const std::optional<TensorView> target = out.present() ? as_matrix(out) : std::nullopt;
  if (out.present() && !target)
    return fail(ErrorCode::shape, "out's leading dimensions must lie evenly in memory");
  if (out.present() && o.dtype.bits != 0 && !same(o.dtype, out.dtype()))
    return fail(ErrorCode::dtype, fmt::format("out is {}, but {} is asked for",
                                              to_string(out.dtype()), to_string(o.dtype)));
  Tensor y;
  if (!out.present()) {
    auto made = Tensor::empty(o.dtype.bits != 0 ? o.dtype : x.dtype(), shape);
    if (!made) return made;
    y = std::move(*made);
  }
  CallFrame frame(SY_MATMUL_INPUTS, SY_MATMUL_OUTPUTS);
  frame.params(w.params);
  frame.input(SY_MATMUL_IN_X, *matrix);
  frame.input(SY_MATMUL_IN_W, w.codes);
  frame.input(SY_MATMUL_IN_SCALES, w.scales);
  frame.input(SY_MATMUL_IN_BIASES, w.biases);
  frame.input(SY_MATMUL_IN_ADD, o.add);
  frame.output(SY_MATMUL_OUT_Y, target ? *target : *as_matrix(y));
  if (auto ok = run_call(engine, SY_OP_MATMUL, frame, o.output.info); !ok)
    return tl::unexpected(std::move(ok.error()));
  return y;
}

}  // namespace

Result<Tensor> matmul(Engine &engine, TensorView x, TensorView w, const MatmulOptions &options) {
  return guarded([&]() -> Result<Tensor> {
    if (auto ok = check_rank("w", w, 2, 2); !ok) return tl::unexpected(ok.error());
    if (!options.transpose) {
      std::swap(w.raw().shape[0], w.raw().shape[1]);
      std::swap(w.raw().strides[0], w.raw().strides[1]);
    }
    return multiply(engine, x, Weights{w, {}, {}, w.dim(0), w.dim(1), {}}, options);
  });
}

Result<Tensor> matmul(Engine &engine, TensorView x, const Quantized &w,
                      const MatmulOptions &options) {
  return guarded([&]() -> Result<Tensor> {
    if (w.shape.size() != 2)
      return fail(ErrorCode::shape, fmt::format("the quantised weights have shape {}; they must "
                                                "have 2 dimensions",
                                                shape_text(w.shape)));
    auto format = parse_quant_format(w.format);
    if (!format) return tl::unexpected(std::move(format.error()));
    Weights weights;
    weights.codes = w.codes;
    weights.scales = w.scales;
    weights.biases = w.biases;
    weights.outputs = w.shape[0];
    weights.inputs = w.shape[1];
    weights.params.format = static_cast<std::uint32_t>((*format)->id);
    weights.params.group_size = static_cast<std::uint32_t>(w.group_size);
    return multiply(engine, x, weights, options);
  });
}

namespace {

/// Runs an operation whose one output is like its first input.
Result<Tensor> run_like(Engine &engine, std::string_view op, CallFrame &frame, const TensorView &x,
                        const LayerOutput &output) {
  Tensor y;
  if (!output.out.present()) {
    auto made = Tensor::empty(x.dtype(), x.shape());
    if (!made) return made;
    y = std::move(*made);
  }
  frame.output(0, output.out.present() ? output.out : y.view());
  if (auto ok = run_call(engine, op, frame, output.info); !ok)
    return tl::unexpected(std::move(ok.error()));
  return y;
}

/// t [.., L, D] with leading axes of size 1 up to rank 4.
TensorView four_axes(const TensorView &t) {
  sy_tensor raw = t.raw();
  const int missing = 4 - raw.rank;
  for (int i = 3; i >= 0; --i) {
    raw.shape[i] = i >= missing ? raw.shape[i - missing] : 1;
    raw.strides[i] = i >= missing ? raw.strides[i - missing] : 0;
  }
  raw.rank = 4;
  return TensorView(raw);
}

}  // namespace

Result<Tensor> rms_norm(Engine &engine, TensorView x, TensorView weight, float eps,
                        const LayerOutput &output) {
  return guarded([&]() -> Result<Tensor> {
    if (auto ok = check_rank("x", x, 1, SY_MAX_RANK); !ok) return tl::unexpected(ok.error());
    CallFrame frame(SY_RMS_NORM_INPUTS, SY_NORM_OUTPUTS);
    sy_norm_params params{.struct_size = 0, .eps = eps};
    frame.params(params);
    frame.input(SY_NORM_IN_X, x);
    frame.input(SY_NORM_IN_WEIGHT, weight);
    return run_like(engine, SY_OP_RMS_NORM, frame, x, output);
  });
}

Result<Tensor> layer_norm(Engine &engine, TensorView x, TensorView weight, TensorView bias,
                          float eps, const LayerOutput &output) {
  return guarded([&]() -> Result<Tensor> {
    if (auto ok = check_rank("x", x, 1, SY_MAX_RANK); !ok) return tl::unexpected(ok.error());
    CallFrame frame(SY_LAYER_NORM_INPUTS, SY_NORM_OUTPUTS);
    sy_norm_params params{.struct_size = 0, .eps = eps};
    frame.params(params);
    frame.input(SY_NORM_IN_X, x);
    frame.input(SY_NORM_IN_WEIGHT, weight);
    frame.input(SY_NORM_IN_BIAS, bias);
    return run_like(engine, SY_OP_LAYER_NORM, frame, x, output);
  });
}

Result<Tensor> swiglu(Engine &engine, TensorView gate, TensorView up, const LayerOutput &output) {
  return guarded([&]() -> Result<Tensor> {
    if (auto ok = check_rank("gate", gate, 1, SY_MAX_RANK); !ok) return tl::unexpected(ok.error());
    CallFrame frame(SY_SWIGLU_INPUTS, SY_ACTIVATION_OUTPUTS);
    sy_activation_params params{.struct_size = 0, .flags = 0};
    frame.params(params);
    frame.input(SY_SWIGLU_IN_GATE, gate);
    frame.input(SY_SWIGLU_IN_UP, up);
    return run_like(engine, SY_OP_SWIGLU, frame, gate, output);
  });
}

Result<Tensor> gelu(Engine &engine, TensorView x, bool tanh, const LayerOutput &output) {
  return guarded([&]() -> Result<Tensor> {
    if (auto ok = check_rank("x", x, 1, SY_MAX_RANK); !ok) return tl::unexpected(ok.error());
    CallFrame frame(SY_GELU_INPUTS, SY_ACTIVATION_OUTPUTS);
    sy_activation_params params{.struct_size = 0, .flags = tanh ? std::uint32_t{SY_GELU_TANH} : 0u};
    frame.params(params);
    frame.input(SY_GELU_IN_X, x);
    return run_like(engine, SY_OP_GELU, frame, x, output);
  });
}

Result<Tensor> rope(Engine &engine, TensorView x, const RopeOptions &o) {
  return guarded([&]() -> Result<Tensor> {
    if (auto ok = check_rank("x", x, 2, 4); !ok) return tl::unexpected(ok.error());
    if (o.rotary < 0 || o.rotary > x.dim(x.rank() - 1))
      return fail(ErrorCode::invalid_argument, fmt::format("rotary is {}; it must be 0 (all) to {}",
                                                           o.rotary, x.dim(x.rank() - 1)));
    const TensorView &out = o.output.out;
    if (out.present() && !std::ranges::equal(out.shape(), x.shape()))
      return fail(ErrorCode::shape, fmt::format("out has shape {}, but the result has {}",
                                                shape_text(out.shape()), shape_text(x.shape())));
    CallFrame frame(SY_ROPE_INPUTS, SY_ROPE_OUTPUTS);
    sy_rope_params params{};
    params.style = o.interleaved ? SY_ROPE_INTERLEAVED : SY_ROPE_HALVES;
    params.offset = o.offset;
    params.rotary = static_cast<std::uint32_t>(o.rotary);
    params.base = o.base;
    params.scale = o.scale;
    frame.params(params);
    const TensorView x4 = four_axes(x);
    frame.input(SY_ROPE_IN_X, x4);
    if (o.positions.present()) {
      if (auto ok = check_rank("positions", o.positions, 1, 2); !ok)
        return tl::unexpected(ok.error());
      sy_tensor p = o.positions.raw();
      if (p.rank == 1) {
        p.shape[1] = p.shape[0];
        p.strides[1] = p.strides[0];
        p.shape[0] = x4.dim(0);
        p.strides[0] = 0;
        p.rank = 2;
      }
      frame.input(SY_ROPE_IN_POSITIONS, TensorView(p));
    }
    frame.input(SY_ROPE_IN_FREQUENCIES, o.frequencies);
    Tensor y;
    if (!out.present()) {
      auto made = Tensor::empty(x.dtype(), x.shape());
      if (!made) return made;
      y = std::move(*made);
    }
    frame.output(SY_ROPE_OUT_Y, four_axes(out.present() ? out : y.view()));
    if (auto ok = run_call(engine, SY_OP_ROPE, frame, o.output.info); !ok)
      return tl::unexpected(std::move(ok.error()));
    return y;
  });
}

}  // namespace switchyard
