// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>

#include "cancel.hpp"
#include "compare.hpp"
#include "op/op_spec.hpp"

namespace switchyard::cli {
namespace {

/// `count` entries of an axis from `start` on; broadcast axes of a mask stay as they are.
TensorView slice(const TensorView &t, int axis, std::int64_t start, std::int64_t count) {
  if (!t.present() || axis < 0 || axis >= t.rank() || t.dim(axis) == 1) return t;
  TensorView out = t;
  out.raw().shape[axis] = count;
  out.raw().byte_offset += static_cast<std::uint64_t>(start * t.stride(axis)) * size_of(t.dtype());
  return out;
}

/// The same axis of a mask of lower rank (masks are aligned to the right).
TensorView slice_mask(const TensorView &mask, int axis, std::int64_t start, std::int64_t count) {
  return slice(mask, axis - (4 - mask.rank()), start, count);
}

/// The mask as [B, Hq, Lq, Lkv] by zero strides, as the operation takes it.
TensorView broadcast(const TensorView &mask, std::span<const std::int64_t> target) {
  if (!mask.present()) return mask;
  std::int64_t strides[4] = {0, 0, 0, 0};
  for (int i = 0; i < mask.rank(); ++i) {
    const int axis = 4 - mask.rank() + i;
    strides[axis] = mask.dim(i) == 1 ? 0 : mask.stride(i);
  }
  TensorView out(mask.data(), mask.dtype(), target, std::span<const std::int64_t>(strides, 4));
  out.raw().byte_size = mask.raw().byte_size;
  return out;
}

struct Inputs {
  TensorView q, k, v;
  AttentionOptions options;
};

/// Cuts the work down to about `limit` values of q and says how.
std::string take_sample(Inputs &in, std::int64_t limit) {
  const std::int64_t batches = in.q.dim(0), length = in.q.dim(2);
  const std::int64_t per_row = std::max<std::int64_t>(1, in.q.dim(1) * in.q.dim(3));
  const std::int64_t rows = limit / per_row;
  if (limit <= 0 || rows >= batches * length) return {};
  std::string sample;
  const std::int64_t b = std::max<std::int64_t>(1, rows / std::max<std::int64_t>(1, length));
  if (b < batches) {
    sample = fmt::format("{} of {} sequences", b, batches);
    in.q = slice(in.q, 0, 0, b);
    in.k = slice(in.k, 0, 0, b);
    in.v = slice(in.v, 0, 0, b);
    in.options.mask = slice_mask(in.options.mask, 0, 0, b);
  }
  if (rows < length) {
    // Positions count from the end of the keys, from the start with top-left causality: that end
    // must stay.
    const std::int64_t count = std::max<std::int64_t>(1, rows);
    const bool first = in.options.causal == SY_CAUSAL_TOP_LEFT;
    const std::int64_t start = first ? 0 : length - count;
    in.q = slice(in.q, 2, start, count);
    in.options.mask = slice_mask(in.options.mask, 2, start, count);
    sample += fmt::format("{}the {} {} of {} query positions", sample.empty() ? "" : ", ",
                          first ? "first" : "last", count, length);
  }
  return sample;
}

Status time_attention(Engine &engine, const Inputs &in, Tensor &out, double &ms) {
  auto first = engine.attention(in.q, in.k, in.v, in.options);
  if (!first) return tl::unexpected(first.error());
  out = std::move(first->out);
  AttentionOptions options = in.options;
  options.out = out;
  double total = 0;
  for (int i = 0; i < 5 && (i == 0 || total < 60); ++i) {
    const auto start = std::chrono::steady_clock::now();
    auto again = engine.attention(in.q, in.k, in.v, options);
    if (!again) return tl::unexpected(again.error());
    const double took =
        std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
    ms = i == 0 ? took : std::min(ms, took);
    total += took;
  }
  return {};
}

/// The operation as a problem, so that its own comparison can judge it.
Problem make_problem(const Inputs &in, sy_attention_params &params) {
  const AttentionOptions &o = in.options;
  params.struct_size = sizeof(params);
  params.causal = o.causal;
  params.scale = std::isnan(o.scale) ? 1.0f / std::sqrt(static_cast<float>(in.q.dim(3))) : o.scale;
  params.softcap = o.softcap;
  params.window_left = o.window ? *o.window - 1 : o.window_left;
  params.window_right = o.window ? -1 : o.window_right;
  const std::int64_t scores[] = {in.q.dim(0), in.q.dim(1), in.q.dim(2), in.k.dim(2)};
  Problem problem;
  problem.op = SY_OP_ATTENTION;
  problem.set_params(params);
  problem.inputs.resize(SY_ATTENTION_INPUTS);
  const auto input = [&](std::size_t slot, const TensorView &view) {
    if (view.present()) problem.inputs[slot] = Tensor::adopt(view, nullptr);
  };
  input(SY_ATTENTION_IN_Q, in.q);
  input(SY_ATTENTION_IN_K, in.k);
  input(SY_ATTENTION_IN_V, in.v);
  input(SY_ATTENTION_IN_MASK, broadcast(o.mask, scores));
  input(SY_ATTENTION_IN_SINKS, o.sinks);
  problem.outputs.resize(SY_ATTENTION_OUTPUTS);
  problem.outputs[SY_ATTENTION_OUT_O] =
      TensorSpec{in.q.dtype(), {in.q.dim(0), in.q.dim(1), in.q.dim(2), in.v.dim(3)}, {}};
  return problem;
}

void fill(CallFrame &frame, const Problem &problem, const Tensor &out,
          sy_attention_params &params) {
  for (std::size_t i = 0; i < problem.inputs.size(); ++i) frame.input(i, problem.inputs[i]);
  frame.output(SY_ATTENTION_OUT_O, out);
  frame.params(params);
}

}  // namespace

Result<Comparison> compare_attention(Engine &own, Engine &other, TensorView q, TensorView k,
                                     TensorView v, AttentionOptions options, std::int64_t limit) {
  Comparison c;
  options.return_lse = false;
  options.out = {};
  Inputs in{q, k, v, options};
  c.sample = take_sample(in, limit);
  EndAtOnce scope;
  Tensor a, b;
  if (auto ok = time_attention(own, in, a, c.own_ms); !ok) return tl::unexpected(ok.error());
  if (auto ok = time_attention(other, in, b, c.other_ms); !ok) return tl::unexpected(ok.error());

  sy_attention_params params{};
  const Problem problem = make_problem(in, params);
  CallFrame got(SY_ATTENTION_INPUTS, SY_ATTENTION_OUTPUTS);
  CallFrame want(SY_ATTENTION_INPUTS, SY_ATTENTION_OUTPUTS);
  fill(got, problem, a, params);
  fill(want, problem, b, params);
  const ReferenceRunner reference = [&other](const sy_call &call) -> Status {
    sy_call copy = call;
    sy_error error{};
    error.struct_size = sizeof(error);
    if (other.run(SY_OP_ATTENTION, copy, &error) != SY_OK)
      return fail(ErrorCode::backend, error.message);
    return {};
  };
  auto differs = attention_spec().compare(problem, got.call(), want.call(), reference);
  c.equal = !differs;
  if (differs) c.difference = *differs;
  return c;
}

}  // namespace switchyard::cli
