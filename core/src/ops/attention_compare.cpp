// SPDX-License-Identifier: Apache-2.0
/// Is an attention output right? The error of each element is measured against what rounding may
/// do to a weighted mean of that row's values: |o - reference| / sum_j p_j |v_j|.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "io/cast.hpp"
#include "ops/attention_problem.hpp"

namespace switchyard::attention_op {
namespace {

constexpr double kF32Limit = 4e-6, kF16Limit = 1e-3, kBF16Limit = 8e-3;

float load(const std::byte *p, DType dtype) noexcept {
  if (same(dtype, dtypes::f32)) {
    float value = 0;
    std::memcpy(&value, p, sizeof value);
    return value;
  }
  std::uint16_t h = 0;
  std::memcpy(&h, p, sizeof h);
  return same(dtype, dtypes::f16) ? f16_to_f32(h) : bf16_to_f32(h);
}

/// Element address in a tensor of rank 3 or 4.
const std::byte *element(const sy_tensor &t, std::int64_t b, std::int64_t h, std::int64_t i,
                         std::int64_t e) noexcept {
  const std::int64_t offset =
      b * t.strides[0] + h * t.strides[1] + i * t.strides[2] + (t.rank > 3 ? e * t.strides[3] : 0);
  return TensorView(t).data<const std::byte>() + offset * (t.dtype.bits / 8);
}

struct Limits {
  double relative;  ///< of sum_j p_j |v_j|
  double least;     ///< half the spacing of the type's subnormal numbers
};

Limits limits_of(DType dtype) noexcept {
  if (same(dtype, dtypes::f32)) return {kF32Limit, 0x1p-150};
  if (same(dtype, dtypes::f16)) return {kF16Limit, 0x1p-25};
  return {kBF16Limit, 0x1p-134};
}

/// Row i of a matrix of one head as f32.
void read_row(const sy_tensor &t, std::int64_t b, std::int64_t h, std::int64_t i,
              std::vector<float> &row) {
  const std::byte *p = element(t, b, h, i, 0);
  const std::int64_t step = t.strides[3] * (t.dtype.bits / 8);
  for (std::size_t e = 0; e < row.size(); ++e)
    row[e] = load(p + static_cast<std::int64_t>(e) * step, t.dtype);
}

/// max over scores of |scale| * sum_e |q_e k_e|: how much cancellation a dot product may see. Of
/// the finite ones, over at most 64 query rows a head, spread evenly.
double largest_score(const View &a) {
  double largest = 0;
  const auto dk = static_cast<std::size_t>(a.dk);
  const std::int64_t step = std::max<std::int64_t>(1, a.lq / 64);
  std::vector<float> row(dk), queries, k(dk);
  for (std::int64_t b = 0; b < a.batch; ++b)
    for (std::int64_t g = 0; g < a.hkv; ++g) {
      queries.clear();
      for (std::int64_t h = g * a.group(); h < (g + 1) * a.group(); ++h)
        for (std::int64_t i = 0; i < a.lq; i += step) {
          read_row(*a.q, b, h, i, row);
          queries.insert(queries.end(), row.begin(), row.end());
        }
      for (std::int64_t j = 0; j < a.keys(b); ++j) {
        read_row(*a.k, b, g, j, k);
        for (std::size_t q = 0; q < queries.size(); q += dk) {
          float sum = 0;
          for (std::size_t e = 0; e < dk; ++e) sum += std::abs(queries[q + e] * k[e]);
          if (std::isfinite(sum)) largest = std::max(largest, static_cast<double>(sum));
        }
      }
    }
  return largest * std::abs(static_cast<double>(a.params->scale));
}

/// The reference's answer to the same call with |v|, contiguous: sum_j p_j |v_j|.
Result<Tensor> denominators(const View &a, const sy_call &call, const ReferenceRunner &reference) {
  const std::array shape{a.batch, a.hkv, a.lkv, a.dv};
  auto v = Tensor::empty(a.v->dtype, shape);
  const std::array out_shape{a.batch, a.hq, a.lq, a.dv};
  auto out = Tensor::empty(a.q->dtype, out_shape);
  if (!v || !out) return fail(ErrorCode::out_of_memory, "no memory to judge attention's error");
  const std::size_t size = size_of(a.v->dtype);
  auto *to = v->data<std::byte>();
  for (std::int64_t b = 0; b < a.batch; ++b)
    for (std::int64_t h = 0; h < a.hkv; ++h)
      for (std::int64_t j = 0; j < a.lkv; ++j)
        for (std::int64_t e = 0; e < a.dv; ++e, to += size) {
          std::memcpy(to, element(*a.v, b, h, j, e), size);
          to[size - 1] &= std::byte{0x7F};  // clears the sign
        }
  CallFrame frame(SY_ATTENTION_INPUTS, SY_ATTENTION_OUTPUTS);
  for (std::uint32_t i = 0; i < call.n_inputs; ++i)
    if (call.inputs[i] != nullptr) frame.input(i, TensorView(*call.inputs[i]));
  frame.input(SY_ATTENTION_IN_V, *v);
  frame.output(SY_ATTENTION_OUT_O, *out);
  frame.call().params = call.params;
  frame.call().params_size = call.params_size;
  if (auto ok = reference(frame.call()); !ok) return tl::unexpected(ok.error());
  return out;
}

std::string place(std::string_view what, std::int64_t b, std::int64_t h, std::int64_t i,
                  std::int64_t e) {
  return e < 0 ? fmt::format("{}[{}, {}, {}]", what, b, h, i)
               : fmt::format("{}[{}, {}, {}, {}]", what, b, h, i, e);
}

/// NaN, infinities and zeros of rows that see nothing must agree exactly; the rest within `limit`.
bool close(float got, float want, double limit) noexcept {
  if (std::isnan(want)) return std::isnan(got);
  if (!std::isfinite(want)) return got == want;
  return std::abs(static_cast<double>(got) - static_cast<double>(want)) <= limit;
}

std::optional<std::string> compare_lse(const View &got, const View &want, double growth) {
  for (std::int64_t b = 0; b < want.batch; ++b)
    for (std::int64_t h = 0; h < want.hq; ++h)
      for (std::int64_t i = 0; i < want.lq; ++i) {
        const float x = load(element(*got.lse, b, h, i, 0), dtypes::f32);
        const float y = load(element(*want.lse, b, h, i, 0), dtypes::f32);
        const double limit = kF32Limit * growth + 0x1p-22 * std::abs(static_cast<double>(y));
        if (!close(x, y, limit))
          return fmt::format("{} is {}, but the reference has {} (limit {:.2e})",
                             place("lse", b, h, i, -1), x, y, limit);
      }
  return std::nullopt;
}

}  // namespace

std::optional<std::string> compare(const Problem &, const sy_call &got_call,
                                   const sy_call &want_call, const ReferenceRunner &reference) {
  const View got = view(got_call), want = view(want_call);
  if (want.batch == 0 || want.hq == 0 || want.lq == 0) return std::nullopt;
  const auto scales = denominators(want, want_call, reference);
  if (!scales) return "the reference failed: " + scales.error().message;
  const double growth = 1 + largest_score(want) / 8;
  const Limits limits = limits_of(want.q->dtype);
  const sy_tensor &scale = scales->view().raw();
  for (std::int64_t b = 0; b < want.batch; ++b)
    for (std::int64_t h = 0; h < want.hq; ++h)
      for (std::int64_t i = 0; i < want.lq; ++i)
        for (std::int64_t e = 0; e < want.dv; ++e) {
          const float x = load(element(*got.o, b, h, i, e), got.o->dtype);
          const float y = load(element(*want.o, b, h, i, e), want.o->dtype);
          const double size = load(element(scale, b, h, i, e), scale.dtype);
          const double limit = limits.relative * growth * size + limits.least;
          if (!close(x, y, size == 0 ? 0 : limit))
            return fmt::format("{} is {}, but the reference has {}: error {:.2e}, limit {:.2e}",
                               place("o", b, h, i, e), x, y,
                               std::abs(static_cast<double>(x) - static_cast<double>(y)), limit);
        }
  if (got.lse == nullptr || want.lse == nullptr) return std::nullopt;
  return compare_lse(got, want, growth);
}

}  // namespace switchyard::attention_op
