// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Tiles of values between global and shared memory, and conversions. For kernels.

#include "dialect.hpp"
#include "quant_arguments.hpp"

namespace switchyard::cuda::device {

constexpr std::uint32_t kInfinity = 0x7F800000u;

SY_DEVICE float bf16_to_float(std::uint16_t h) {
  return as_float(static_cast<std::uint32_t>(h) << 16);
}
SY_DEVICE std::uint16_t float_to_bf16(float v) {
  const std::uint32_t bits = as_bits(v);
  if ((bits & 0x7FFFFFFFu) > kInfinity) return static_cast<std::uint16_t>(bits >> 16 | 0x40u);
  return static_cast<std::uint16_t>((bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16);
}
SY_DEVICE std::uint16_t to_half(float v) {
  const std::uint32_t bits = as_bits(v);
  if ((bits & 0x7FFFFFFFu) > kInfinity)
    return static_cast<std::uint16_t>((bits >> 16 & 0x8000u) | 0x7E00u);
  return float_to_half(v);
}
SY_DEVICE float widen(ValueType type, std::uint16_t h) {
  return type == ValueType::bf16 ? bf16_to_float(h) : half_to_float(h);
}
SY_DEVICE std::uint16_t narrow(ValueType type, float v) {
  return type == ValueType::bf16 ? float_to_bf16(v) : to_half(v);
}
SY_DEVICE float load_value(const char *p, std::int64_t i, ValueType type) {
  if (type == ValueType::f32) return reinterpret_cast<const float *>(p)[i];
  return widen(type, reinterpret_cast<const std::uint16_t *>(p)[i]);
}
SY_DEVICE void store_value(char *p, std::int64_t i, ValueType type, float v) {
  if (type == ValueType::f32)
    reinterpret_cast<float *>(p)[i] = v;
  else
    reinterpret_cast<std::uint16_t *>(p)[i] = narrow(type, v);
}
/// v rounded to the type.
SY_DEVICE float rounded_to(ValueType type, float v) {
  return type == ValueType::f32 ? v : widen(type, narrow(type, v));
}
SY_DEVICE float largest_of(ValueType type) {
  return type == ValueType::f32    ? 3.40282347e+38f
         : type == ValueType::bf16 ? 3.38953139e+38f
                                   : 65504.0f;
}
SY_DEVICE bool finite(float v) { return (as_bits(v) & 0x7FFFFFFFu) < kInfinity; }
SY_DEVICE float magnitude(float v) { return as_float(as_bits(v) & 0x7FFFFFFFu); }
SY_DEVICE float larger(float a, float b) { return a > b ? a : b; }
SY_DEVICE float smaller(float a, float b) { return a < b ? a : b; }

/// Where value i of the logical order lies, in elements.
SY_DEVICE std::int64_t offset_of(const Values &v, std::int64_t i) {
  std::int64_t offset = 0;
  for (int k = v.rank - 1; k >= 0; --k) {
    offset += i % v.shape[k] * v.strides[k];
    i /= v.shape[k];
  }
  return offset;
}

/// Four values from index i on, a multiple of 4; those behind the end are 0.
SY_DEVICE void load_four(const Values &v, std::int64_t i, float (&out)[4]) {
  if (v.flat && i + 4 <= v.total) {
    if (v.type == ValueType::f32) {
      const Vector q = *reinterpret_cast<const Vector *>(v.data + 4 * i);
      out[0] = as_float(q.x), out[1] = as_float(q.y), out[2] = as_float(q.z),
      out[3] = as_float(q.w);
    } else {
      const std::uint64_t q = *reinterpret_cast<const std::uint64_t *>(v.data + 2 * i);
      SY_UNROLL
      for (int e = 0; e < 4; ++e) out[e] = widen(v.type, static_cast<std::uint16_t>(q >> (16 * e)));
    }
    return;
  }
  SY_UNROLL
  for (int e = 0; e < 4; ++e)
    out[e] =
        i + e < v.total ? load_value(v.data, v.flat ? i + e : offset_of(v, i + e), v.type) : 0.0f;
}

SY_DEVICE void store_four(const Values &v, std::int64_t i, const float (&in)[4]) {
  if (v.flat && i + 4 <= v.total) {
    if (v.type == ValueType::f32) {
      *reinterpret_cast<Vector *>(v.data + 4 * i) = {as_bits(in[0]), as_bits(in[1]), as_bits(in[2]),
                                                     as_bits(in[3])};
    } else {
      std::uint64_t q = 0;
      SY_UNROLL
      for (int e = 0; e < 4; ++e)
        q |= static_cast<std::uint64_t>(narrow(v.type, in[e])) << (16 * e);
      *reinterpret_cast<std::uint64_t *>(v.data + 2 * i) = q;
    }
    return;
  }
  for (int e = 0; e < 4; ++e)
    if (i + e < v.total) store_value(v.data, v.flat ? i + e : offset_of(v, i + e), v.type, in[e]);
}

/// What a block of threads holds in shared memory.
struct Tile {
  float *values;      ///< chunk c begins at 36 c
  std::uint8_t *bad;  ///< chunks with a value that is not finite
  std::uint8_t *codes;
};
SY_DEVICE Tile tile_of_block() {
  char *p = shared();
  return {reinterpret_cast<float *>(p), reinterpret_cast<std::uint8_t *>(p + kQuantValuesBytes),
          reinterpret_cast<std::uint8_t *>(p + kQuantValuesBytes + kQuantFlagsBytes)};
}
SY_DEVICE int tile_index(int i) { return i / 32 * kChunkWords + i % 32; }

/// Values first.. of the call into the tile, checked as the call asks.
SY_DEVICE void load_tile(const QuantArguments &a, std::int64_t first, Tile tile) {
  tile.bad[thread()] = 0;
  sync_block();
  for (int i = 4 * thread(); i < kTileValues; i += 4 * kQuantThreads) {
    float v[4];
    load_four(a.values, first + i, v);
    SY_UNROLL
    for (int e = 0; e < 4; ++e) {
      if (!finite(v[e])) {
        if (a.saturate) {
          const bool nan = (as_bits(v[e]) & 0x7FFFFFFFu) > kInfinity;
          const float top = largest_of(a.values.type);
          v[e] = nan ? 0.0f : as_bits(v[e]) >> 31 ? -top : top;
        } else {
          tile.bad[i / 32] = 1;
          atomic_min(a.error, static_cast<std::uint64_t>(first + i + e) * 2);
        }
      }
      tile.values[tile_index(i) + e] = v[e];
    }
  }
  sync_block();
}

/// This thread's chunk of 32 values.
SY_DEVICE void load_chunk(Tile tile, int chunk, float (&x)[32]) {
  SY_UNROLL
  for (int i = 0; i < 32; i += 4) {
    const Vector q = *reinterpret_cast<const Vector *>(tile.values + kChunkWords * chunk + i);
    x[i] = as_float(q.x), x[i + 1] = as_float(q.y), x[i + 2] = as_float(q.z),
    x[i + 3] = as_float(q.w);
  }
}

/// `bytes` between shared and global memory by all threads. `aligned`: `global` is a multiple
/// of 16.
SY_DEVICE void copy_codes_out(std::uint8_t *global, const std::uint8_t *local, std::int64_t bytes,
                              bool aligned) {
  const std::int64_t whole = aligned ? bytes / 16 : 0;
  for (std::int64_t i = thread(); i < whole; i += kQuantThreads)
    reinterpret_cast<Vector *>(global)[i] = reinterpret_cast<const Vector *>(local)[i];
  for (std::int64_t i = 16 * whole + thread(); i < bytes; i += kQuantThreads) global[i] = local[i];
}
SY_DEVICE void copy_codes_in(std::uint8_t *local, const std::uint8_t *global, std::int64_t bytes,
                             bool aligned) {
  const std::int64_t whole = aligned ? bytes / 16 : 0;
  for (std::int64_t i = thread(); i < whole; i += kQuantThreads)
    reinterpret_cast<Vector *>(local)[i] = reinterpret_cast<const Vector *>(global)[i];
  for (std::int64_t i = 16 * whole + thread(); i < bytes; i += kQuantThreads) local[i] = global[i];
}

SY_DEVICE void report_overflow(const QuantArguments &a, std::int64_t first) {
  atomic_min(a.error, static_cast<std::uint64_t>(first) * 2 + 1);
}

/// 1/d, and 0 where there is none.
SY_DEVICE float inverse(float d) {
  if (d == 0.0f) return 0.0f;
  const float id = 1.0f / d;
  return finite(id) ? id : 0.0f;
}
SY_DEVICE bool put_half(std::uint8_t *out, float d) {
  const std::uint16_t h = to_half(d);
  out[0] = static_cast<std::uint8_t>(h);
  out[1] = static_cast<std::uint8_t>(h >> 8);
  return (h & 0x7FFFu) < 0x7C00u;
}
SY_DEVICE float get_half(const std::uint8_t *p) {
  return half_to_float(static_cast<std::uint16_t>(p[0] | p[1] << 8));
}
SY_DEVICE void put_word(std::uint8_t *out, std::uint32_t w) {
  SY_UNROLL
  for (int i = 0; i < 4; ++i) out[i] = static_cast<std::uint8_t>(w >> (8 * i));
}
SY_DEVICE int truncated(float v, int top) {
  const int q = static_cast<int>(v);
  return q < top ? q : top;
}
/// v to the nearest integer, ties to even, within low..top; NaN becomes `low`.
SY_DEVICE int clamped_even(float v, float low, float top) {
  if (!(v > low)) return static_cast<int>(low);
  return static_cast<int>(even(v < top ? v : top));
}
/// BitNet's scale for n values whose magnitudes have this sum, and its codes.
SY_DEVICE float ternary_scale(double sum, std::int64_t n) {
  const float mean = n > 0 ? static_cast<float>(sum / static_cast<double>(n)) : 0.0f;
  return mean > 1e-5f ? mean : 1e-5f;
}
SY_DEVICE int ternary_code(float x, float inverse_scale) {
  const float t = even(x * inverse_scale);
  return t > 1.0f ? 1 : t < -1.0f ? -1 : static_cast<int>(t);
}

}  // namespace switchyard::cuda::device
