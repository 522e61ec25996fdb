// SPDX-License-Identifier: Apache-2.0
/// Is an attention output right? The error of each element is measured against what rounding may
/// do to a weighted mean of that row's values: |o - reference| / sum_j p_j |v_j|.
#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <memory>

#include "io/cast.hpp"
#include "ops/attention_problem.hpp"
#include "ops/values.hpp"

namespace switchyard::attention_op {
namespace {

/// Weights below e^-87 may be taken as 0: what they weigh shows where the others weigh zeros.
constexpr double kLeastWeight = 1.7e-38;
constexpr double kF32Limit = 4e-6, kF16Limit = 1e-3, kBF16Limit = 8e-3;

/// Element address in a tensor of rank 3 or 4.
const std::byte *element(const sy_tensor &t, std::int64_t b, std::int64_t h, std::int64_t i,
                         std::int64_t e) noexcept {
  const std::int64_t offset =
      b * t.strides[0] + h * t.strides[1] + i * t.strides[2] + (t.rank > 3 ? e * t.strides[3] : 0);
  return TensorView(t).data<const std::byte>() + offset * (t.dtype.bits / 8);
}

struct Limits {
  double relative;  ///< of sum_j p_j |v_j|
  double least;     ///< half the spacing of the type's subnormal numbers, and tiny weights' part
};

Limits limits_of(DType dtype) noexcept {
  if (same(dtype, dtypes::f32)) return {kF32Limit, 0x1p-150};
  if (same(dtype, dtypes::f16)) return {kF16Limit, 0x1p-25};
  return {kBF16Limit, 0x1p-134};
}

/// Query i of head h as f32.
void read_query(const View &a, std::int64_t b, std::int64_t h, std::int64_t i,
                std::vector<float> &row) {
  const std::byte *p = element(*a.q, b, h, i, 0);
  const std::int64_t step = a.q->strides[3] * (a.q->dtype.bits / 8);
  for (std::size_t e = 0; e < row.size(); ++e)
    row[e] = load_value(p + static_cast<std::int64_t>(e) * step, a.q->dtype);
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
          read_query(a, b, h, i, row);
          queries.insert(queries.end(), row.begin(), row.end());
        }
      for (std::int64_t j = 0; j < a.keys(b); ++j) {
        read_key(a, false, b, g, j, k);
        for (std::size_t q = 0; q < queries.size(); q += dk) {
          float sum = 0;
          for (std::size_t e = 0; e < dk; ++e) sum += std::abs(queries[q + e] * k[e]);
          if (std::isfinite(sum)) largest = std::max(largest, static_cast<double>(sum));
        }
      }
    }
  return largest * std::abs(static_cast<double>(a.params.scale));
}

/// All keys or values as a contiguous array of `dtype` [B, Hkv, Lkv, dim]; zeros where a sequence
/// ends.
Result<Tensor> plain_keys(const View &a, bool values, DType dtype) {
  const std::int64_t dim = values ? a.dv : a.dk;
  auto t = Tensor::zeros(dtype, std::array{a.batch, a.hkv, a.lkv, dim});
  if (!t) return t;
  std::vector<float> row(static_cast<std::size_t>(dim));
  const std::size_t size = size_of(dtype);
  for (std::int64_t b = 0; b < a.batch; ++b)
    for (std::int64_t g = 0; g < a.hkv; ++g)
      for (std::int64_t j = 0; j < a.keys(b); ++j) {
        read_key(a, values, b, g, j, row);
        auto *to = t->data<std::byte>() +
                   static_cast<std::size_t>(((b * a.hkv + g) * a.lkv + j) * dim) * size;
        for (const float x : row) {
          const std::uint16_t h = same(dtype, dtypes::f16) ? f32_to_f16(x) : f32_to_bf16(x);
          std::memcpy(to, size == 4 ? static_cast<const void *>(&x) : &h, size);
          to += size;
        }
      }
  return t;
}

/// The reference's answer to the same call with |v|: sum_j p_j |v_j|. Keys that are not plain are
/// made so first, in f32.
Result<Tensor> denominators(const View &a, const sy_call &call, const ReferenceRunner &reference,
                            double &largest_value) {
  const DType dtype = a.plain() ? a.q->dtype : dtypes::f32;
  auto v = plain_keys(a, true, dtype);
  auto out = Tensor::empty(dtype, std::array{a.batch, a.hq, a.lq, a.dv});
  Result<Tensor> q = Tensor(), k = Tensor();
  if (!a.plain()) {
    q = cast(TensorView(*a.q), dtype);
    k = plain_keys(a, false, dtype);
  }
  if (!v || !out || !q || !k)
    return fail(ErrorCode::out_of_memory, "no memory to judge attention's error");
  const std::size_t size = size_of(dtype);
  largest_value = 0;
  for (std::int64_t i = 0; i < v->elements(); ++i) {
    std::byte *p = v->data<std::byte>() + static_cast<std::size_t>(i) * size;
    p[size - 1] &= std::byte{0x7F};  // clears the sign
    if (const double x = load_value(p, dtype); std::isfinite(x))
      largest_value = std::max(largest_value, x);
  }
  CallFrame frame(SY_ATTENTION_INPUTS, SY_ATTENTION_OUTPUTS);
  for (std::uint32_t i = 0; i < std::min<std::uint32_t>(call.n_inputs, SY_ATTENTION_INPUTS); ++i)
    if (call.inputs[i] != nullptr) frame.input(i, TensorView(*call.inputs[i]));
  frame.input(SY_ATTENTION_IN_V, *v);
  if (!a.plain()) {
    frame.input(SY_ATTENTION_IN_Q, *q);
    frame.input(SY_ATTENTION_IN_K, *k);
  }
  frame.output(SY_ATTENTION_OUT_O, *out);
  Params plain = a.params;
  plain.kv_format = plain.kv_group = 0;
  const sy_attention_kv_params params = plain.abi();
  frame.call().params = &params;
  frame.call().params_size = sizeof(params);
  if (auto ok = reference(frame.call()); !ok) return tl::unexpected(ok.error());
  return out;
}

/// How far ALiBi moves the scores of kept keys across a gap: f32 loses as many digits there.
double gap_score(const View &a) {
  if (a.alibi == nullptr || a.params.keep == 0) return 0;
  double steepest = 0;
  for (std::int64_t h = 0; h < a.hq; ++h)
    steepest = std::max(steepest, std::abs(static_cast<double>(at<const float>(*a.alibi, h))));
  return steepest * static_cast<double>(a.params.gap);
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
        const float x = load_value(element(*got.lse, b, h, i, 0), dtypes::f32);
        const float y = load_value(element(*want.lse, b, h, i, 0), dtypes::f32);
        const double limit = kF32Limit * growth + 0x1p-22 * std::abs(static_cast<double>(y));
        if (!close(x, y, limit))
          return fmt::format("{} is {}, but the reference has {} (limit {:.2e})",
                             place("lse", b, h, i, -1), x, y, limit);
      }
  return std::nullopt;
}

/// What errors of a problem are measured by.
struct Yardstick {
  Tensor scales;  ///< sum_j p_j |v_j|
  double largest_value = 0, growth = 1;
};

Result<Yardstick> measure(const View &want, const sy_call &want_call,
                          const ReferenceRunner &reference) {
  Yardstick y;
  auto scales = denominators(want, want_call, reference, y.largest_value);
  if (!scales) return tl::unexpected(scales.error());
  y.scales = std::move(*scales);
  y.growth = 1 + (largest_score(want) + gap_score(want)) / 8;
  return y;
}

/// The same, remembered for the problem that was compared last: several kernels, or one in several
/// places, answer the same one in turn, and the yardstick costs more than a kernel's run.
Result<std::shared_ptr<const Yardstick>> yardstick(const Problem &problem, const View &want,
                                                   const sy_call &want_call,
                                                   const ReferenceRunner &reference) {
  struct Last {
    std::uint64_t inputs = 0;
    std::vector<std::byte> params;
    std::shared_ptr<const Yardstick> made;
  };
  thread_local Last last;
  const bool generated = !problem.inputs.empty();  // else they are a caller's
  const std::string shape = problem.shape.text();
  const std::uint64_t inputs = digest(problem) ^ XXH3_64bits(shape.data(), shape.size());
  if (generated && last.made && last.inputs == inputs && last.params == problem.params)
    return last.made;
  auto made = measure(want, want_call, reference);
  if (!made) return tl::unexpected(made.error());
  auto kept = std::make_shared<const Yardstick>(std::move(*made));
  last = generated ? Last{inputs, problem.params, kept} : Last{};
  return kept;
}

}  // namespace

std::optional<std::string> compare(const Problem &problem, const sy_call &got_call,
                                   const sy_call &want_call, const ReferenceRunner &reference) {
  const View got = view(got_call), want = view(want_call);
  if (want.batch == 0 || want.hq == 0 || want.lq == 0) return std::nullopt;
  const auto measured = yardstick(problem, want, want_call, reference);
  if (!measured) return "the reference failed: " + measured.error().message;
  const double growth = (*measured)->growth;
  Limits limits = limits_of(want.q->dtype);
  limits.least += kLeastWeight * static_cast<double>(want.lkv) * (*measured)->largest_value;
  const sy_tensor &scale = (*measured)->scales.view().raw();
  for (std::int64_t b = 0; b < want.batch; ++b)
    for (std::int64_t h = 0; h < want.hq; ++h)
      for (std::int64_t i = 0; i < want.lq; ++i)
        for (std::int64_t e = 0; e < want.dv; ++e) {
          const float x = load_value(element(*got.o, b, h, i, e), got.o->dtype);
          const float y = load_value(element(*want.o, b, h, i, e), want.o->dtype);
          const double size = load_value(element(scale, b, h, i, e), scale.dtype);
          const double limit = limits.relative * growth * size + limits.least;
          if (!close(x, y, limit))
            return fmt::format("{} is {}, but the reference has {}: error {:.2e}, limit {:.2e}",
                               place("o", b, h, i, e), x, y,
                               std::abs(static_cast<double>(x) - static_cast<double>(y)), limit);
        }
  if (got.lse == nullptr || want.lse == nullptr) return std::nullopt;
  return compare_lse(got, want, growth);
}

}  // namespace switchyard::attention_op
