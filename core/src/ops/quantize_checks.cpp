// SPDX-License-Identifier: Apache-2.0
// Checks of arrays and exact comparison for quantize and dequantize.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>

#include "base/checked.hpp"
#include "base/tensor_checks.hpp"
#include "io/cast.hpp"
#include "ops/quantize_problems.hpp"

namespace switchyard {
namespace {

bool negative_shape(const sy_tensor &t) noexcept {
  return std::any_of(t.shape, t.shape + t.rank, [](std::int64_t s) { return s < 0; });
}

bool is_nan(const std::byte *p, DType dtype) noexcept {
  if (same(dtype, dtypes::f32)) {
    float value = 0;
    std::memcpy(&value, p, sizeof value);
    return std::isnan(value);
  }
  if (!same(dtype, dtypes::f16) && !same(dtype, dtypes::bf16)) return false;
  std::uint16_t h = 0;
  std::memcpy(&h, p, sizeof h);
  return std::isnan(same(dtype, dtypes::f16) ? f16_to_f32(h) : bf16_to_f32(h));
}

std::string hex(const std::byte *p, std::size_t n) {
  std::string text = "0x";
  for (std::size_t i = n; i-- > 0;) text += fmt::format("{:02x}", std::to_integer<unsigned>(p[i]));
  return text;
}

}  // namespace

Result<const sy_quantize_params *> quantize_params(const sy_call &call) {
  const auto *params = static_cast<const sy_quantize_params *>(call.params);
  constexpr std::size_t kFirst = offsetof(sy_quantize_params, rounding);  // size in ABI 1.0
  if (params == nullptr || call.params_size < kFirst || params->struct_size < kFirst ||
      call.params_size < std::min<std::size_t>(params->struct_size, sizeof(sy_quantize_params)))
    return fail(ErrorCode::invalid_argument,
                "the call's params must be an sy_quantize_params with struct_size set");
  return params;
}

Status check_values(std::string_view name, const sy_tensor *t, bool written) {
  if (t == nullptr) return fail(ErrorCode::invalid_argument, fmt::format("{} is missing", name));
  if (t->rank < 1 || t->rank > SY_MAX_RANK)
    return fail(ErrorCode::shape, fmt::format("{} has rank {}, but must have 1 to {} dimensions",
                                              name, t->rank, SY_MAX_RANK));
  const std::span<const std::int64_t> shape(t->shape, static_cast<std::size_t>(t->rank));
  if (!same(t->dtype, dtypes::f32) && !same(t->dtype, dtypes::f16) && !same(t->dtype, dtypes::bf16))
    return fail(ErrorCode::dtype,
                fmt::format("{} is {}, but must be f32, f16 or bf16", name, to_string(t->dtype)));
  if (negative_shape(*t))
    return fail(ErrorCode::shape, fmt::format("{} has shape {}", name, shape_text(shape)));
  const std::int64_t last = t->shape[t->rank - 1];
  if (last > 1 && t->strides[t->rank - 1] != 1)
    return fail(ErrorCode::shape,
                fmt::format("{} of shape {} has stride {} in its last dimension, but values must "
                            "be contiguous there; pass a contiguous copy",
                            name, shape_text(shape), t->strides[t->rank - 1]));
  if (auto ok = check_memory(name, *t); !ok) return ok;
  if (written && (t->flags & SY_TENSOR_READ_ONLY) != 0)
    return fail(ErrorCode::invalid_argument, fmt::format("{} is read-only", name));
  if (written && may_overlap(*t))
    return fail(
        ErrorCode::shape,
        fmt::format("{} is written to, but its strides put elements on top of others", name));
  return {};
}

Status check_array(std::string_view name, const sy_tensor *t, const std::optional<QuantArray> &want,
                   bool written) {
  if (!want) {
    if (t == nullptr) return {};
    return fail(ErrorCode::invalid_argument,
                fmt::format("{} is given, but the format has none", name));
  }
  if (t == nullptr) return fail(ErrorCode::invalid_argument, fmt::format("{} is missing", name));
  if (!same(t->dtype, want->dtype))
    return fail(ErrorCode::dtype, fmt::format("{} is {}, but must be {}", name, to_string(t->dtype),
                                              to_string(want->dtype)));
  const bool rank_ok = t->rank == want->rank;
  if (!rank_ok || !std::equal(t->shape, t->shape + t->rank, want->dims.begin())) {
    const auto rank = static_cast<std::size_t>(std::clamp(t->rank, 0, SY_MAX_RANK));
    return fail(ErrorCode::shape,
                fmt::format("{} has shape {}, but must have {}", name, shape_text({t->shape, rank}),
                            shape_text(want->shape())));
  }
  std::int64_t run = 1;
  for (int k = t->rank - 1; k >= 0; --k) {
    if (t->shape[k] > 1 && t->strides[k] != run)
      return fail(ErrorCode::shape, fmt::format("{} must be contiguous", name));
    run *= t->shape[k];
  }
  if (auto ok = check_memory(name, *t); !ok) return ok;
  if (written && (t->flags & SY_TENSOR_READ_ONLY) != 0)
    return fail(ErrorCode::invalid_argument, fmt::format("{} is read-only", name));
  return {};
}

std::optional<std::string> exact_difference(std::string_view name, const sy_tensor *got,
                                            const sy_tensor *want) {
  if (got == nullptr && want == nullptr) return std::nullopt;
  if (got == nullptr || want == nullptr) return fmt::format("{} is absent on one side", name);
  const TensorView a(*got), b(*want);
  if (a.rank() != b.rank() || !std::ranges::equal(a.shape(), b.shape()) ||
      !same(a.dtype(), b.dtype()))
    return fmt::format("{} has another shape or dtype", name);
  const std::int64_t n = a.elements();
  if (n == 0) return std::nullopt;
  const std::int64_t cols = a.rank() == 0 ? 1 : a.dim(a.rank() - 1);
  const std::size_t size = size_of(a.dtype());
  const auto row_of = [&](const TensorView &t, std::int64_t row) {
    std::int64_t offset = 0;
    for (int k = t.rank() - 2; k >= 0; --k) {
      offset += row % t.dim(k) * t.stride(k);
      row /= t.dim(k);
    }
    return t.data<std::byte>() + offset * static_cast<std::int64_t>(size);
  };
  for (std::int64_t row = 0; row < n / cols; ++row) {
    const std::byte *p = row_of(a, row), *q = row_of(b, row);
    if (std::memcmp(p, q, static_cast<std::size_t>(cols) * size) == 0) continue;
    for (std::int64_t col = 0; col < cols; ++col, p += size, q += size)
      if (std::memcmp(p, q, size) != 0 && !(is_nan(p, a.dtype()) && is_nan(q, a.dtype())))
        return fmt::format("{} differs in row {}, element {}: {}, but the reference has {}", name,
                           row, col, hex(p, size), hex(q, size));
  }
  return std::nullopt;
}

double tensor_bytes(const sy_tensor *t) noexcept {
  if (t == nullptr) return 0;
  double n = t->dtype.bits / 8;
  for (int k = 0; k < t->rank; ++k) n *= static_cast<double>(t->shape[k]);
  return n;
}

}  // namespace switchyard
