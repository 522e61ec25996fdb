// SPDX-License-Identifier: Apache-2.0
#pragma once
/// What generating attention problems is made of: the description taken apart, random data,
/// layouts.

#include <array>
#include <cstring>

#include "op/problem.hpp"
#include "ops/attention_problem.hpp"

namespace switchyard::attention_op {

/// SplitMix64: reproducible anywhere, good enough for test data.
class Random {
 public:
  explicit Random(std::uint64_t seed) noexcept : state_(seed) {}
  std::uint64_t next() noexcept {
    std::uint64_t z = state_ += 0x9E3779B97F4A7C15ull;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
  }
  /// Mean 0, variance 1, close to normal: a sum of four uniform numbers.
  float normal() noexcept {
    const std::uint64_t r = next();
    float sum = 0;
    for (int i = 0; i < 4; ++i) sum += static_cast<float>((r >> (16 * i)) & 0xFFFF) * 0x1p-16f;
    return (sum - 2.0f) * 1.7320508f;
  }
  bool one_in(std::uint64_t n) noexcept { return next() % n == 0; }

 private:
  std::uint64_t state_;
};

/// A description, taken apart.
struct Plan {
  std::int64_t b, hq, hkv, lq, lkv, d, dv;
  DType dtype;
  Params params;
  std::string mask, mask_shape, pattern, layout, data;
  bool sinks, alibi, lens, lse;
  std::string kv;     ///< how keys are stored: plain, q8, q4, q4 with scales of another dtype
  DType scales;       ///< dtype of q4's scales
  std::int64_t page;  ///< keys in a page, 0 = not paged
};

Result<Plan> read_plan(const Shape &shape);

/// Values that share a scale in mlx_affine4, unless the description says otherwise.
constexpr std::int64_t usual_kv_group(std::int64_t dk, std::int64_t dv) noexcept {
  return dk % 64 == 0 && dv % 64 == 0 ? 64 : 32;
}

inline constexpr std::string_view kCausal[] = {"none", "top_left", "bottom_right"};

using Sizes = std::array<std::int64_t, 4>;

/// Strides of [batch, heads, length, dim] in a layout. `shared_heads`: a zero head stride.
Sizes strides_of(const Sizes &n, std::string_view layout, bool shared_heads);

/// Rounds to f32, f16 or bf16.
void store_element(DType dtype, std::byte *p, float value);

/// Calls f(batch, head, row, column) and stores its answer. Gaps keep NaN, or true for bools.
template <class F>
Result<Tensor> filled(DType dtype, const Sizes &shape, const Sizes &strides, bool reversed, F f) {
  auto t = Tensor::strided(dtype, shape, strides);
  if (!t) return t;
  std::memset(t->data(), same(dtype, dtypes::boolean) ? 1 : 0xFF, t->bytes());
  const auto size = static_cast<std::int64_t>(size_of(dtype));
  auto *base = t->data<std::byte>();
  for (std::int64_t b = 0; b < shape[0]; ++b)
    for (std::int64_t h = 0; h < shape[1]; ++h)
      for (std::int64_t i = 0; i < shape[2]; ++i) {
        const std::int64_t row = reversed ? shape[2] - 1 - i : i;
        std::byte *p = base + (b * strides[0] + h * strides[1] + row * strides[2]) * size;
        for (std::int64_t e = 0; e < shape[3]; ++e, p += strides[3] * size) {
          const float value = f(b, h, i, e);
          if (same(dtype, dtypes::boolean))
            *p = std::byte{value == 0.0f};
          else
            store_element(dtype, p, value);
        }
      }
  if (!reversed || t->elements() == 0) return t;
  auto owner = std::make_shared<Tensor>(std::move(*t));
  sy_tensor raw = owner->view().raw();
  raw.byte_offset += static_cast<std::uint64_t>((shape[2] - 1) * strides[2] * size);
  raw.strides[2] = -raw.strides[2];
  return Tensor::adopt(TensorView(raw), std::move(owner));
}

/// Adds k, v and what belongs to them - scales, biases, the block table - to the problem, whose
/// kv_lengths are there already.
Status fill_keys(const Plan &p, Random &random, Problem &problem);

}  // namespace switchyard::attention_op
