// SPDX-License-Identifier: Apache-2.0
#include "io/cast.hpp"

#include <bit>
#include <cmath>
#include <cstring>
#include <type_traits>

#include "io/strided.hpp"

namespace switchyard {

// Integer arithmetic throughout: the result must not depend on the caller's rounding mode.
std::uint16_t f32_to_f16(float value) noexcept {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = bits >> 16 & 0x8000u;
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u)  // NaN: quiet, payload's top bits kept
    return static_cast<std::uint16_t>(sign | 0x7e00u | (magnitude >> 13 & 0x3ffu));
  if (magnitude >= 0x477ff000u) return static_cast<std::uint16_t>(sign | 0x7c00u);  // >= 65520
  const std::uint32_t exponent = magnitude >> 23;
  if (exponent < 102) return static_cast<std::uint16_t>(sign);  // < 2^-25
  if (exponent < 113) {                                         // subnormal in f16
    const std::uint32_t mantissa = (magnitude & 0x7fffffu) | 0x800000u;
    const std::uint32_t shift = 126 - exponent;
    const std::uint32_t rest = mantissa & ((1u << shift) - 1), half = 1u << (shift - 1);
    std::uint32_t rounded = mantissa >> shift;
    if (rest > half || (rest == half && (rounded & 1u) != 0)) ++rounded;
    return static_cast<std::uint16_t>(sign | rounded);
  }
  const std::uint32_t rounded = magnitude + 0xfffu + (magnitude >> 13 & 1u);
  return static_cast<std::uint16_t>(sign | (rounded - 0x38000000u) >> 13);
}

std::uint16_t f32_to_bf16(float value) noexcept {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<std::uint16_t>(bits >> 16 | 0x40u);
  return static_cast<std::uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

float f16_to_f32(std::uint16_t half) noexcept {
  const std::uint32_t sign = (half & 0x8000u) << 16;
  const std::uint32_t exponent = half >> 10 & 0x1fu;
  std::uint32_t mantissa = half & 0x3ffu;
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000u | mantissa << 13);
  if (exponent != 0) return std::bit_cast<float>(sign | (exponent + 112) << 23 | mantissa << 13);
  if (mantissa == 0) return std::bit_cast<float>(sign);
  const auto top = static_cast<std::uint32_t>(std::bit_width(mantissa)) - 1;  // value 2^(top-24)
  mantissa = mantissa << (23 - top) & 0x7fffffu;
  return std::bit_cast<float>(sign | (top + 103) << 23 | mantissa);
}

float bf16_to_f32(std::uint16_t bits) noexcept {
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
}

namespace {

struct F16 {
  std::uint16_t bits;
};
struct BF16 {
  std::uint16_t bits;
};

/// Rounded to odd: a second rounding to fewer bits then equals rounding once.
float odd_float(double value) noexcept {
  const auto nearest = static_cast<float>(value);
  if (std::isnan(value) || static_cast<double>(nearest) == value) return nearest;
  auto bits = std::bit_cast<std::uint32_t>(nearest);
  if (std::fabs(static_cast<double>(nearest)) > std::fabs(value)) --bits;
  return std::bit_cast<float>(bits | 1u);
}

double odd_double(std::uint64_t magnitude) noexcept {
  const int excess = static_cast<int>(std::bit_width(magnitude)) - 53;
  if (excess <= 0) return static_cast<double>(magnitude);
  const std::uint64_t low = (std::uint64_t{1} << excess) - 1;
  const bool inexact = (magnitude & low) != 0;
  return static_cast<double>((magnitude & ~low) | (inexact ? low + 1 : 0));
}

/// The value exactly, or (64-bit integers) rounded to odd.
template <class S>
auto widen(S value) noexcept {
  if constexpr (std::is_same_v<S, F16>) {
    return f16_to_f32(value.bits);
  } else if constexpr (std::is_same_v<S, BF16>) {
    return bf16_to_f32(value.bits);
  } else if constexpr (std::is_floating_point_v<S>) {
    return value;
  } else if constexpr (sizeof(S) <= 2) {
    return static_cast<float>(value);
  } else if constexpr (sizeof(S) == 4) {
    return static_cast<double>(value);
  } else if constexpr (std::is_unsigned_v<S>) {
    return odd_double(value);
  } else {
    const auto bits = static_cast<std::uint64_t>(value);
    return value < 0 ? -odd_double(0 - bits) : odd_double(bits);
  }
}

template <class D, class S>
D convert(S value) noexcept {
  if constexpr (std::is_same_v<D, double> && (std::is_integral_v<S> || std::is_same_v<S, double>)) {
    return static_cast<double>(value);
  } else if constexpr (std::is_same_v<D, float> || std::is_same_v<D, double>) {
    return static_cast<D>(widen(value));
  } else {
    const auto wide = widen(value);
    float narrow;
    if constexpr (std::is_same_v<decltype(wide), const double>)
      narrow = odd_float(wide);
    else
      narrow = wide;
    if constexpr (std::is_same_v<D, F16>)
      return F16{f32_to_f16(narrow)};
    else
      return BF16{f32_to_bf16(narrow)};
  }
}

template <class D, class S>
Status convert_all(const TensorView &array, D *out) {
  return for_each_piece(array, [&](std::span<const std::byte> piece) -> Status {
    for (std::size_t at = 0; at < piece.size(); at += sizeof(S)) {
      S value;
      std::memcpy(&value, piece.data() + at, sizeof(S));
      *out++ = convert<D>(value);
    }
    return {};
  });
}

template <class D>
Status convert_to(const TensorView &array, void *to) {
  auto *out = static_cast<D *>(to);
  const DType t = array.dtype();
  if (same(t, dtypes::f32)) return convert_all<D, float>(array, out);
  if (same(t, dtypes::f64)) return convert_all<D, double>(array, out);
  if (same(t, dtypes::f16)) return convert_all<D, F16>(array, out);
  if (same(t, dtypes::bf16)) return convert_all<D, BF16>(array, out);
  if (same(t, dtypes::i8)) return convert_all<D, std::int8_t>(array, out);
  if (same(t, dtypes::i16)) return convert_all<D, std::int16_t>(array, out);
  if (same(t, dtypes::i32)) return convert_all<D, std::int32_t>(array, out);
  if (same(t, dtypes::i64)) return convert_all<D, std::int64_t>(array, out);
  if (same(t, dtypes::u8) || same(t, dtypes::boolean))
    return convert_all<D, std::uint8_t>(array, out);
  if (same(t, dtypes::u16)) return convert_all<D, std::uint16_t>(array, out);
  if (same(t, dtypes::u32)) return convert_all<D, std::uint32_t>(array, out);
  return convert_all<D, std::uint64_t>(array, out);
}

}  // namespace

Result<Tensor> contiguous_copy(const TensorView &array) {
  auto copy = Tensor::empty(array.dtype(), array.shape());
  if (!copy) return copy;
  auto *to = copy->data<std::byte>();
  auto status = for_each_piece(array, [&](std::span<const std::byte> piece) -> Status {
    std::memcpy(to, piece.data(), piece.size());
    to += piece.size();
    return {};
  });
  if (!status) return tl::unexpected(status.error());
  return copy;
}

Result<Tensor> cast(const TensorView &array, DType dtype) {
  if (same(array.dtype(), dtype)) return contiguous_copy(array);
  const bool known = same(dtype, dtypes::f64) || same(dtype, dtypes::f32) ||
                     same(dtype, dtypes::f16) || same(dtype, dtypes::bf16);
  if (!known)
    return fail(ErrorCode::dtype, "cannot cast " + to_string(array.dtype()) + " to " +
                                      to_string(dtype) +
                                      "; arrays are cast to f64, f32, f16 or bf16 only");
  auto out = Tensor::empty(dtype, array.shape());
  if (!out) return out;
  void *to = out->data();
  const Status status = same(dtype, dtypes::f64)   ? convert_to<double>(array, to)
                        : same(dtype, dtypes::f32) ? convert_to<float>(array, to)
                        : same(dtype, dtypes::f16) ? convert_to<F16>(array, to)
                                                   : convert_to<BF16>(array, to);
  if (!status) return tl::unexpected(status.error());
  return out;
}

}  // namespace switchyard
