// SPDX-License-Identifier: Apache-2.0
#pragma once
/// The dialect's words on the host. Who runs the fibers provides the functions of `emulation`; the
/// tests do, in tests/cuda. Part of dialect.hpp.

#include <bit>
#include <cmath>
#include <cstring>

#define SY_DEVICE inline
#define SY_KERNEL(NAME, ARGUMENTS, THREADS, BLOCKS)                                    \
  static void NAME(const ARGUMENTS &a);                                                \
  static const ::switchyard::cuda::emulation::Kernel NAME##_kernel{                    \
      #NAME, [](const void *p) { NAME(*static_cast<const ARGUMENTS *>(p)); }, THREADS, \
      sizeof(ARGUMENTS)};                                                              \
  static void NAME(const ARGUMENTS &a)
#define SY_UNROLL
#define SY_NO_UNROLL

namespace switchyard::cuda::emulation {

/// A kernel by name; defined at file scope.
struct Kernel {
  Kernel(const char *name, void (*run)(const void *arguments), int most_threads,
         std::size_t argument_bytes);
};

/// Where the running fiber is.
struct Place {
  int thread, threads, block_y, block_z;
  std::int64_t block, blocks;
  char *shared;
};
const Place &place();
void sync_block();
/// All lanes of a warp bring `in`; `compute` gets all of them at once, in the order of the lanes,
/// and writes their answers. `kind` tells collectives apart: lanes must agree on it.
void collect(const char *kind, const void *in, std::size_t in_bytes, void *out,
             std::size_t out_bytes, void (*compute)(const char *in, char *out));
void copy_async(void *to, const void *from, int valid);
void copy_commit();
void copy_wait(int groups);

}  // namespace switchyard::cuda::emulation

namespace switchyard::cuda::device {

inline int thread() { return emulation::place().thread; }
inline int threads() { return emulation::place().threads; }
inline std::int64_t block() { return emulation::place().block; }
inline int block_y() { return emulation::place().block_y; }
inline int block_z() { return emulation::place().block_z; }
inline std::int64_t blocks() { return emulation::place().blocks; }
inline char *shared() { return emulation::place().shared; }
inline void sync_block() { emulation::sync_block(); }
inline void sync_warp() {
  emulation::collect("sync_warp", nullptr, 0, nullptr, 0, [](const char *, char *) {});
}

template <class T>
struct Sent {
  T value;
  int lane;
};
template <class T>
T shuffle(T v, int lane) {
  const Sent<T> in{v, lane & 31};
  T out;
  emulation::collect("shuffle", &in, sizeof in, &out, sizeof out, [](const char *from, char *to) {
    const auto *all = reinterpret_cast<const Sent<T> *>(from);
    for (int l = 0; l < 32; ++l) reinterpret_cast<T *>(to)[l] = all[all[l].lane].value;
  });
  return out;
}
template <class T>
T shuffle_xor(T v, int mask) {
  return shuffle(v, (thread() & 31) ^ mask);
}
inline bool any_of(bool v) {
  bool out;
  emulation::collect("any_of", &v, 1, &out, 1, [](const char *from, char *to) {
    bool any = false;
    for (int l = 0; l < 32; ++l) any = any || from[l] != 0;
    for (int l = 0; l < 32; ++l) to[l] = any;
  });
  return out;
}

inline void atomic_add(std::int64_t *to, std::int64_t v) {
  *to = static_cast<std::int64_t>(static_cast<std::uint64_t>(*to) + static_cast<std::uint64_t>(v));
}
inline int atomic_add(int *to, int v) {
  const int before = *to;
  *to += v;
  return before;
}
inline void atomic_max(std::uint32_t *to, std::uint32_t v) { *to = *to < v ? v : *to; }
inline void atomic_min(std::uint64_t *to, std::uint64_t v) { *to = v < *to ? v : *to; }

inline float as_float(std::uint32_t bits) { return std::bit_cast<float>(bits); }
inline std::uint32_t as_bits(float v) { return std::bit_cast<std::uint32_t>(v); }
inline float fused(float a, float b, float c) { return std::fma(a, b, c); }
inline float half_to_float(std::uint16_t h) {
  const std::uint32_t sign = (h & 0x8000u) << 16, bits = (h & 0x7FFFu) << 13;
  if (bits >= 0x7C00u << 13) return as_float(sign | 0x7F800000u | (bits & 0x7FFFFFu));
  return as_float(sign | as_bits(as_float(bits) * 0x1p112f));
}
inline std::uint16_t float_to_half(float v) {
  const std::uint32_t bits = as_bits(v), magnitude = bits & 0x7FFFFFFFu;
  const std::uint32_t sign = bits >> 16 & 0x8000u;
  if (magnitude >= 0x47800000u)  // 65536, infinity, NaN
    return static_cast<std::uint16_t>(sign | (magnitude > 0x7F800000u ? 0x7E00u : 0x7C00u));
  if (magnitude < 0x38800000u)  // subnormal: the sum's last place is 2^-24
    return static_cast<std::uint16_t>(sign | (as_bits(as_float(magnitude) + 0.5f) - as_bits(0.5f)));
  const std::uint32_t rounded = magnitude + 0xFFFu + (magnitude >> 13 & 1u);
  return static_cast<std::uint16_t>(sign | ((rounded - (112u << 23)) >> 13));
}
inline float even(float v) { return std::nearbyint(v); }
inline float away(float v) { return std::round(v); }
inline double even(double v) { return std::nearbyint(v); }
inline float root(float v) { return std::sqrt(v); }
inline double scaled(double v, int exponent) { return std::ldexp(v, exponent); }
inline float exp2_fast(float v) {
  const float r = std::exp2(v);
  return r < 0x1p-126f ? 0.0f : r;
}
inline float exp_accurate(float v) { return std::exp(v); }
inline float log_accurate(float v) { return std::log(v); }
inline float tanh_accurate(float v) { return std::tanh(v); }

struct alignas(16) Vector {
  std::uint32_t x, y, z, w;
};

inline void copy_async(void *to, const void *from, int valid) {
  emulation::copy_async(to, from, valid);
}
inline void copy_commit() { emulation::copy_commit(); }
template <int N>
void copy_wait() {
  emulation::copy_wait(N);
}

template <bool transposed>
void ldmatrix_any(std::uint32_t (&r)[4], const void *row) {
  emulation::collect(transposed ? "ldmatrix.trans" : "ldmatrix", &row, sizeof row, r, sizeof r,
                     [](const char *from, char *to) {
                       const char *const *rows = reinterpret_cast<const char *const *>(from);
                       auto *out = reinterpret_cast<std::uint32_t *>(to);
                       for (int l = 0; l < 32; ++l)
                         for (int i = 0; i < 4; ++i) {
                           std::uint16_t pair[2];
                           for (int e = 0; e < 2; ++e) {
                             const int at = transposed ? 2 * (l % 4) + e : l / 4;
                             const int column = transposed ? l / 4 : 2 * (l % 4) + e;
                             std::memcpy(&pair[e], rows[8 * i + at] + 2 * column, 2);
                           }
                           out[4 * l + i] = pair[0] | static_cast<std::uint32_t>(pair[1]) << 16;
                         }
                     });
}
inline void ldmatrix(std::uint32_t (&r)[4], const void *row) { ldmatrix_any<false>(r, row); }
inline void ldmatrix_transposed(std::uint32_t (&r)[4], const void *row) {
  ldmatrix_any<true>(r, row);
}

struct Bf16 {
  static float widen(std::uint32_t h) { return as_float(h << 16); }
  static std::uint32_t narrow(float v) {
    const std::uint32_t bits = as_bits(v);
    if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return 0x7FFFu;
    return (bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16;
  }
};
struct F16 {
  static float widen(std::uint32_t h) { return half_to_float(static_cast<std::uint16_t>(h)); }
  static std::uint32_t narrow(float v) { return float_to_half(v); }
};

struct Fragments {
  float c[4];
  std::uint32_t a[4], b[2];
};
/// Tensor cores add sixteen products without rounding to nearest. Sums are cut off here, and lose
/// their last bit as well, so that no bound gets by which counts on more.
inline float chopped(double v) {
  const auto f = static_cast<float>(v);
  if (!std::isfinite(f)) return f;
  const std::uint32_t bits = as_bits(f), away = std::fabs(static_cast<double>(f)) > std::fabs(v);
  return as_float((bits - away) & ~1u);
}
template <class T>
void mma(T, float (&c)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1) {
  const Fragments mine{{c[0], c[1], c[2], c[3]}, {a[0], a[1], a[2], a[3]}, {b0, b1}};
  emulation::collect("mma", &mine, sizeof mine, c, sizeof c, [](const char *from, char *to) {
    const auto *f = reinterpret_cast<const Fragments *>(from);
    float left[16][16], right[16][8];
    for (int l = 0; l < 32; ++l)
      for (int e = 0; e < 2; ++e) {
        const int g = l / 4, t = 2 * (l % 4) + e;
        for (int i = 0; i < 4; ++i)
          left[g + 8 * (i % 2)][t + 8 * (i / 2)] = T::widen(f[l].a[i] >> (16 * e) & 0xFFFFu);
        for (int i = 0; i < 2; ++i) right[t + 8 * i][g] = T::widen(f[l].b[i] >> (16 * e) & 0xFFFFu);
      }
    for (int l = 0; l < 32; ++l)
      for (int i = 0; i < 4; ++i) {
        const int row = l / 4 + 8 * (i / 2), column = 2 * (l % 4) + i % 2;
        auto sum = static_cast<double>(f[l].c[i]);
        for (int k = 0; k < 16; ++k)
          sum += static_cast<double>(left[row][k]) * static_cast<double>(right[k][column]);
        reinterpret_cast<float *>(to)[4 * l + i] = chopped(sum);
      }
  });
}
template <class T>
std::uint32_t pack(T, float low, float high) {
  return T::narrow(low) | T::narrow(high) << 16;
}

}  // namespace switchyard::cuda::device
