// SPDX-License-Identifier: Apache-2.0
/// Keys and values one by one, however they are stored.
#include <cstring>

#include "io/cast.hpp"
#include "ops/attention_problem.hpp"
#include "ops/values.hpp"

namespace switchyard::attention_op {
namespace {

/// Rounds to f32, f16 or bf16.
float rounded(float value, DType dtype) noexcept {
  if (same(dtype, dtypes::f16)) return f16_to_f32(f32_to_f16(value));
  return same(dtype, dtypes::bf16) ? bf16_to_f32(f32_to_bf16(value)) : value;
}

void read_q8_0(const std::byte *p, std::span<float> row) noexcept {
  for (std::size_t e = 0; e < row.size(); ++e) {
    const std::byte *block = p + e / 32 * 34;
    std::int8_t code = 0;
    std::memcpy(&code, block + 2 + e % 32, 1);
    row[e] = load_value(block, dtypes::f16) * static_cast<float>(code);
  }
}

void read_affine4(const std::byte *p, const std::byte *scales, const std::byte *biases, DType dtype,
                  std::size_t group, std::span<float> row) noexcept {
  const std::size_t size = size_of(dtype);
  for (std::size_t e = 0; e < row.size(); ++e) {
    const auto code = std::to_integer<unsigned>(p[e / 2] >> (e % 2 * 4)) & 15u;
    const float product =
        rounded(static_cast<float>(code) * load_value(scales + e / group * size, dtype), dtype);
    row[e] = rounded(product + load_value(biases + e / group * size, dtype), dtype);
  }
}

}  // namespace

void read_key(const View &a, bool values, std::int64_t b, std::int64_t g, std::int64_t j,
              std::span<float> row) noexcept {
  if (a.table != nullptr) {
    b = a.table_entry(b, j / a.page);
    j %= a.page;
  }
  const auto place = [&](const sy_tensor *t) {
    return TensorView(*t).data<const std::byte>() +
           (b * t->strides[0] + g * t->strides[1] + j * t->strides[2]) * (t->dtype.bits / 8);
  };
  const sy_tensor *t = values ? a.v : a.k;
  if (a.params.kv_format == SY_QUANT_Q8_0) return read_q8_0(place(t), row);
  if (a.params.kv_format == SY_QUANT_MLX_AFFINE4)
    return read_affine4(place(t), place(values ? a.v_scales : a.k_scales),
                        place(values ? a.v_biases : a.k_biases), a.k_scales->dtype,
                        a.params.kv_group, row);
  const std::byte *p = place(t);
  const std::int64_t step = t->strides[3] * (t->dtype.bits / 8);
  for (std::size_t e = 0; e < row.size(); ++e)
    row[e] = load_value(p + static_cast<std::int64_t>(e) * step, t->dtype);
}

}  // namespace switchyard::attention_op
