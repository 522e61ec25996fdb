// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Plain element access for the reference quantisers: half floats bit by bit, one value at a time.

#include <switchyard/plugin.h>

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace switchyard::reference::quant {

inline float f16_to_f32(std::uint16_t h) noexcept {
  const float sign = (h & 0x8000u) != 0 ? -1.0f : 1.0f;
  const int exponent = h >> 10 & 31;
  const auto fraction = static_cast<float>(h & 1023u);
  if (exponent == 31)
    return std::bit_cast<float>((h & 0x8000u) << 16 | 0x7F800000u | (h & 1023u) << 13);
  if (exponent == 0) return sign * std::ldexp(fraction, -24);
  return sign * std::ldexp(fraction + 1024.0f, exponent - 25);
}

/// Nearest, ties to even; from 65520 on infinite.
inline std::uint16_t f32_to_f16(float value) noexcept {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const auto sign = static_cast<std::uint16_t>(bits >> 16 & 0x8000u);
  const float magnitude = std::fabs(value);
  if (std::isnan(value)) return static_cast<std::uint16_t>(sign | 0x7E00u);
  if (magnitude == 0.0f) return sign;
  if (magnitude >= 65520.0f) return static_cast<std::uint16_t>(sign | 0x7C00u);
  int exponent = 0;
  std::frexp(magnitude, &exponent);                        // magnitude = [0.5, 1) * 2^exponent
  const int ulp = (exponent < -13 ? -13 : exponent) - 11;  // log2 of the result's last place
  const auto units = static_cast<std::uint32_t>(std::nearbyint(std::ldexp(magnitude, -ulp)));
  // Units of a subnormal are its bits. Of a normal they hold the implicit one, which counts one
  // exponent step; a carry out of the fraction counts another.
  const std::uint32_t base = static_cast<std::uint32_t>(ulp + 24) << 10;
  return static_cast<std::uint16_t>(sign | (base + units));
}

inline float bf16_to_f32(std::uint16_t h) noexcept {
  return std::bit_cast<float>(static_cast<std::uint32_t>(h) << 16);
}

/// Nearest, ties to even; NaN stays NaN.
inline std::uint16_t f32_to_bf16(float value) noexcept {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if (std::isnan(value)) return static_cast<std::uint16_t>(bits >> 16 | 0x40u);
  return static_cast<std::uint16_t>((bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16);
}

inline float load(const std::byte *p, sy_dtype type) noexcept {
  if (type.bits == 32) {
    float value = 0;
    std::memcpy(&value, p, sizeof value);
    return value;
  }
  std::uint16_t h = 0;
  std::memcpy(&h, p, sizeof h);
  return type.code == SY_TYPE_BFLOAT ? bf16_to_f32(h) : f16_to_f32(h);
}

inline void store(std::byte *p, sy_dtype type, float value) noexcept {
  if (type.bits == 32) {
    std::memcpy(p, &value, sizeof value);
    return;
  }
  const std::uint16_t h = type.code == SY_TYPE_BFLOAT ? f32_to_bf16(value) : f32_to_f16(value);
  std::memcpy(p, &h, sizeof h);
}

/// `value` rounded to `type`.
inline float rounded(float value, sy_dtype type) noexcept {
  std::byte bytes[4];
  store(bytes, type, value);
  return load(bytes, type);
}

inline float largest_finite(sy_dtype type) noexcept {
  if (type.bits == 32) return 3.40282347e+38f;
  return type.code == SY_TYPE_BFLOAT ? 3.38953139e+38f : 65504.0f;
}

inline std::byte *first_byte(const sy_tensor &t) noexcept {
  return static_cast<std::byte *>(t.handle) + t.byte_offset;
}

/// A tensor as rows along its last dimension; leading dimensions may have any stride.
struct Rows {
  const sy_tensor &t;
  std::int64_t cols, count;

  explicit Rows(const sy_tensor &tensor) noexcept
      : t(tensor), cols(tensor.shape[tensor.rank - 1]), count(1) {
    for (int k = 0; k + 1 < t.rank; ++k) count *= t.shape[k];
  }
  std::byte *at(std::int64_t row, std::int64_t col) const noexcept {
    std::int64_t offset = col * t.strides[t.rank - 1];
    for (int k = t.rank - 2; k >= 0; --k) {
      offset += row % t.shape[k] * t.strides[k];
      row /= t.shape[k];
    }
    return first_byte(t) + offset * (t.dtype.bits / 8);
  }
};

/// Asks the host now and then whether to go on.
class Progress {
 public:
  Progress(const sy_call &call, std::int64_t total) noexcept : call_(call), total_(total) {}
  /// Counts `values` as done; false when the host asked to stop.
  bool step(std::int64_t values) noexcept {
    done_ += values;
    if (call_.progress == nullptr || done_ - asked_ < kInterval) return !stopped_;
    asked_ = done_;
    const double share = static_cast<double>(done_) / static_cast<double>(total_ > 0 ? total_ : 1);
    if (call_.progress(call_.progress_arg, share) != 0) stopped_ = true;
    return !stopped_;
  }
  bool stopped() const noexcept { return stopped_; }

 private:
  static constexpr std::int64_t kInterval = 1 << 18;  // a few milliseconds of plain loops
  const sy_call &call_;
  std::int64_t total_, done_ = 0, asked_ = 0;
  bool stopped_ = false;
};

}  // namespace switchyard::reference::quant
