// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/tensor_checks.hpp"
#include "ops/attention_problem.hpp"

namespace switchyard {
namespace attention_op {
namespace {

const sy_tensor *slot(const sy_tensor *const *slots, std::uint32_t count,
                      std::uint32_t index) noexcept {
  return index < count ? slots[index] : nullptr;
}

/// Values in a row of v, which may be quantised.
std::int64_t row_values(const sy_tensor &t, std::uint32_t format) noexcept {
  if (format == SY_QUANT_Q8_0) return t.shape[3] / 34 * 32;
  return format == SY_QUANT_MLX_AFFINE4 ? t.shape[3] * 8 : t.shape[3];
}

}  // namespace

Params params_of(const sy_call &call) noexcept {
  sy_attention_kv_params p{};
  const auto *given = static_cast<const sy_attention_params *>(call.params);
  std::memcpy(&p, given, std::min<std::size_t>(given->struct_size, sizeof p));
  return {p.base, p.keep, p.gap, p.kv_format, p.kv_group};
}

View view(const sy_call &call) noexcept {
  const auto in = [&](std::uint32_t i) { return slot(call.inputs, call.n_inputs, i); };
  View a{};
  a.q = in(SY_ATTENTION_IN_Q);
  a.k = in(SY_ATTENTION_IN_K);
  a.v = in(SY_ATTENTION_IN_V);
  a.mask = in(SY_ATTENTION_IN_MASK);
  a.sinks = in(SY_ATTENTION_IN_SINKS);
  a.alibi = in(SY_ATTENTION_IN_ALIBI);
  a.lengths = in(SY_ATTENTION_IN_KV_LENGTHS);
  a.table = in(SY_ATTENTION_IN_BLOCK_TABLE);
  a.k_scales = in(SY_ATTENTION_IN_K_SCALES);
  a.k_biases = in(SY_ATTENTION_IN_K_BIASES);
  a.v_scales = in(SY_ATTENTION_IN_V_SCALES);
  a.v_biases = in(SY_ATTENTION_IN_V_BIASES);
  a.o = slot(call.outputs, call.n_outputs, SY_ATTENTION_OUT_O);
  a.lse = slot(call.outputs, call.n_outputs, SY_ATTENTION_OUT_LSE);
  a.params = params_of(call);
  if (a.q != nullptr) {
    a.batch = a.q->shape[0];
    a.hq = a.q->shape[1];
    a.lq = a.q->shape[2];
    a.dk = a.q->shape[3];
  }
  if (a.k != nullptr) {
    a.hkv = a.k->shape[1];
    a.lkv = a.k->shape[2];
    if (a.table != nullptr) {
      a.page = a.lkv;
      a.lkv *= a.table->rank == 2 ? a.table->shape[1] : 0;
    }
  }
  if (a.v != nullptr) a.dv = row_values(*a.v, a.params.kv_format);
  return a;
}

std::int64_t View::keys(std::int64_t b) const noexcept {
  if (lengths == nullptr || lengths->handle == nullptr) return lkv;
  return std::clamp<std::int64_t>(at<const std::int32_t>(*lengths, b), 0, lkv);
}

std::int32_t View::table_entry(std::int64_t b, std::int64_t m) const noexcept {
  return TensorView(*table)
      .data<const std::int32_t>()[b * table->strides[0] + m * table->strides[1]];
}

namespace {

constexpr std::int64_t kUnlimited = std::int64_t{1} << 40;  // hides nothing, sums stay small

std::int64_t window(std::int64_t side) noexcept {
  return side < 0 ? kUnlimited : std::min(side, kUnlimited);
}
std::int64_t right_side(const View &a) noexcept {
  return a.params.causal != SY_CAUSAL_NONE ? 0 : window(a.params.window_right);
}
std::int64_t offset(const View &a, std::int64_t keys) noexcept {
  return a.params.causal == SY_CAUSAL_TOP_LEFT ? 0 : keys - a.lq;
}

/// sum over 0 <= i < n of clamp(i + c, 0, limit).
double clamped_sum(double n, double c, double limit) noexcept {
  const double first = std::clamp(-c, 0.0, n);          // below: 0
  const double full = std::clamp(limit - c, first, n);  // from here: limit
  const double rising = full - first;
  return rising * (first + c) + rising * (rising - 1) / 2 + (n - full) * limit;
}

}  // namespace

Span visible(const View &a, std::int64_t b, std::int64_t i) noexcept {
  const std::int64_t keys = a.keys(b), position = i + offset(a, keys);
  return {std::max<std::int64_t>(0, position - window(a.params.window_left)),
          std::min(keys, position + right_side(a) + 1)};
}

double visible_pairs(const View &a, std::int64_t keys) noexcept {
  const auto n = static_cast<double>(a.lq), limit = static_cast<double>(keys);
  const auto o = static_cast<double>(offset(a, keys));
  const double ends = clamped_sum(n, o + static_cast<double>(right_side(a)) + 1, limit);
  const double first = o - static_cast<double>(window(a.params.window_left));
  const double kept = std::min(static_cast<double>(a.params.keep), limit);
  return ends - clamped_sum(n, first, limit) + clamped_sum(n, first, kept);
}

namespace {

std::uint64_t mask_class(const sy_tensor *mask) noexcept {
  if (mask == nullptr) return 0;
  const std::uint64_t type = same(mask->dtype, dtypes::boolean) ? 1 : 2;
  return type * 2 + (mask->strides[1] == 0 ? 1 : 0);
}

double bytes_of(const sy_tensor *t) noexcept {
  if (t == nullptr) return 0;
  double n = t->dtype.bits / 8;
  for (int k = 0; k < t->rank; ++k)
    if (t->strides[k] != 0 || t->shape[k] == 0) n *= static_cast<double>(t->shape[k]);
  return n;
}

/// How keys are stored: plain, q8_0, or mlx_affine4 with scales of one of three dtypes.
std::uint64_t kv_class(const View &a) noexcept {
  if (a.params.kv_format == SY_QUANT_NONE) return 0;
  if (a.params.kv_format == SY_QUANT_Q8_0) return 1;
  const DType t = a.k_scales->dtype;
  return (same(t, dtypes::f32)   ? 2u
          : same(t, dtypes::f16) ? 3u
                                 : 4u) +
         (a.params.kv_group == 32 ? 3u : 0u);
}

/// Keys and values of the sequences, whichever pages they lie in.
double key_bytes(const View &a) noexcept {
  double row = 0;
  for (const sy_tensor *t : {a.k, a.v, a.k_scales, a.k_biases, a.v_scales, a.v_biases})
    if (t != nullptr)
      row += static_cast<double>(t->shape[3]) * (t->dtype.bits / 8) *
             static_cast<double>(t->strides[1] == 0 ? 1 : a.hkv);
  double keys = 0;
  for (std::int64_t b = 0; b < a.batch; ++b) keys += static_cast<double>(a.keys(b));
  return keys * row;
}

class Attention final : public OpSpec {
 public:
  std::string_view id() const noexcept override { return SY_OP_ATTENTION; }
  Status validate(const sy_call &call) const override { return attention_op::validate(call); }

  void key(const sy_call &call, KeyBuilder &builder) const noexcept override {
    const View a = view(call);
    builder.dtype(a.q->dtype).size(a.batch * a.hq).size(a.lq).size(a.lkv).size(a.dk).size(a.dv);
    builder.size(a.group())
        .add(a.params.causal, 2)
        .add(a.params.softcap > 0, 1)
        .add(mask_class(a.mask), 3)
        .add(a.sinks != nullptr, 1)
        .add(a.alibi != nullptr, 1)
        .add(a.lengths != nullptr, 1)
        .add(a.lse != nullptr, 1)
        .add(kv_class(a), 3)
        .add(a.params.keep > 0, 1)
        .add(a.params.gap > 0 && a.alibi != nullptr, 1);
    builder.size(a.page);
    builder.size(a.params.window_left < 0 ? 0 : a.params.window_left + 1)
        .size(a.params.window_right < 0 ? 0 : a.params.window_right + 1);
    for (const sy_tensor *t : {a.q, a.k, a.v, a.o})
      builder.layout(t).add(t->strides[3] == 1 || t->shape[3] == 1, 1);
  }

  Shape describe(const sy_call &call) const override { return attention_op::describe(call); }
  Result<Problem> make_problem(const Shape &shape, std::uint64_t seed) const override {
    return attention_op::make_problem(shape, seed);
  }
  std::vector<Shape> conformance_shapes() const override {
    return attention_op::conformance_shapes();
  }
  std::vector<Shape> gate_shapes(const Shape &like) const override {
    return attention_op::gate_shapes(like);
  }
  std::optional<std::string> compare(const Problem &problem, const sy_call &got,
                                     const sy_call &want,
                                     const ReferenceRunner &reference) const override {
    return attention_op::compare(problem, got, want, reference);
  }

  bool checks_parts() const noexcept override { return true; }
  Result<std::string> spot_check(const sy_call &done, std::uint64_t pick,
                                 const ReferenceRunner &reference) const override {
    return attention_op::spot_check(*this, done, pick, reference);
  }

  Work work(const sy_call &call) const noexcept override {
    const View a = view(call);
    double pairs = 0;
    if (a.lengths == nullptr)
      pairs = static_cast<double>(a.batch) * visible_pairs(a, a.lkv);
    else
      for (std::int64_t b = 0; b < a.batch; ++b) pairs += visible_pairs(a, a.keys(b));
    Work w;
    w.flops = 2.0 * static_cast<double>(a.dk + a.dv) * pairs * static_cast<double>(a.hq);
    for (const sy_tensor *t : {a.q, a.mask, a.o, a.lse}) w.bytes += bytes_of(t);
    if (a.table == nullptr)
      for (const sy_tensor *t : {a.k, a.v, a.k_scales, a.k_biases, a.v_scales, a.v_biases})
        w.bytes += bytes_of(t);
    else
      w.bytes += key_bytes(a);
    return w;
  }
};

}  // namespace
}  // namespace attention_op

const OpSpec &attention_spec() noexcept {
  static const attention_op::Attention spec;
  return spec;
}

}  // namespace switchyard
