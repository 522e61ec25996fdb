// SPDX-License-Identifier: Apache-2.0
#pragma once
/// What all quantisation kernels share besides arithmetic: rows with strides, pieces for threads,
/// the first error, streaming stores. For kernel sources only (needs SY_ISA).

#include "../failure.hpp"
#include "../parallel.hpp"
#include "quant_simd.hpp"

namespace switchyard::cpu {
inline namespace SY_ISA {
namespace quant {

// Sizes found by measurement on Zen 4; none changes results.
/// How a loop over values is cut, in bytes of values.
struct Pace {
  uint64_t serial = 192 << 10;  ///< below, waking threads costs more
  uint64_t piece = 512 << 10;   ///< the most in a piece of a parallel loop
  uint64_t wave = 8 << 20;      ///< per thread between two polls of the host
};
inline constexpr Pace kSearchPace{16 << 10, 32 << 10, 512 << 10};  ///< of some 0.5 GB/s
inline constexpr uint64_t kStreamBytes = 24 << 20;  ///< written by a call: more is streamed
inline constexpr int64_t kFarBytes = 32 << 20;      ///< read by a call: more comes from memory
inline constexpr int64_t kAheadBytes = 4096;  ///< how far ahead of the work it is fetched then

inline char *first_byte(const sy_tensor &t) {
  return static_cast<char *>(t.handle) + t.byte_offset;
}

/// A tensor as rows along its last dimension. Without gaps it is one long row.
struct Rows {
  const sy_tensor *t;
  int64_t count, cols;
  char *base;

  explicit Rows(const sy_tensor &tensor) : t(&tensor), count(1), cols(1), base(first_byte(tensor)) {
    bool gaps = false;
    for (int k = tensor.rank - 1; k >= 0; --k) {
      gaps = gaps || (tensor.shape[k] != 1 && tensor.strides[k] != cols);
      cols *= tensor.shape[k];
    }
    if (!gaps || cols == 0) return;
    cols = tensor.shape[tensor.rank - 1];
    for (int k = 0; k + 1 < tensor.rank; ++k) count *= tensor.shape[k];
  }
  int64_t values() const { return count * cols; }
  char *row(int64_t r) const {
    if (count == 1 && r == 0) return base;
    int64_t offset = 0;
    for (int k = t->rank - 2; k >= 0; --k) {
      offset += r % t->shape[k] * t->strides[k];
      r /= t->shape[k];
    }
    return base + offset * (t->dtype.bits / 8);
  }
};

/// Calls f(pointer, u, count) for the runs of units u0 <= u < u1 that lie together in memory; f
/// returns false to stop. Units run along rows; `unit` values each.
template <class T, class F>
inline void for_runs(const Rows &rows, int64_t unit, int64_t u0, int64_t u1, F f) {
  const int64_t per_row = rows.cols / unit;
  while (u0 < u1) {
    const int64_t r = u0 / per_row, in_row = u0 - r * per_row;
    const int64_t left = per_row - in_row;
    const int64_t n = left < u1 - u0 ? left : u1 - u0;
    T *p = reinterpret_cast<T *>(rows.row(r)) + in_row * unit;
    if (!f(p, u0, n)) return;
    u0 += n;
  }
}

/// Fetches what lies kAheadBytes behind n values: the processor's own look-ahead ends with a page,
/// and rests while values are computed with.
template <class T>
HWY_INLINE void fetch_ahead(const T *x, int64_t n) {
  const char *at = reinterpret_cast<const char *>(x) + kAheadBytes;
  const int64_t bytes = n * static_cast<int64_t>(sizeof(T));
  for (int64_t b = 0; b < bytes; b += 64) hwy::Prefetch(at + b);
}

/// The error at the lowest index, whichever thread meets it first.
struct FirstError {
  uint64_t key = ~uint64_t{0};  ///< index * 2, + 1 for an overflow

  void report(int64_t index, bool overflow) {
    const uint64_t mine = static_cast<uint64_t>(index) * 2 + (overflow ? 1 : 0);
    uint64_t seen = __atomic_load_n(&key, __ATOMIC_RELAXED);
    while (mine < seen && !__atomic_compare_exchange_n(&key, &seen, mine, true, __ATOMIC_RELAXED,
                                                       __ATOMIC_RELAXED)) {
    }
  }
  /// Is everything from `index` on behind a known error?
  bool before(int64_t index) const {
    return __atomic_load_n(&key, __ATOMIC_RELAXED) < static_cast<uint64_t>(index) * 2;
  }
  int32_t status(sy_error *error, const char *overflow_message) const {
    if (key == ~uint64_t{0}) return SY_OK;
    const int64_t index = static_cast<int64_t>(key / 2);
    if (key % 2 != 0) return failure(error, SY_E_OVERFLOW, overflow_message, index);
    return failure(error, SY_E_NONFINITE,
                   "a value is NaN or infinite (index names the first); clean the input or ask for "
                   "nonfinite=saturate",
                   index);
  }
};

/// body(u0, u1) over all units, in pieces on the call's threads. Pieces start at multiples of
/// `align` units. Between waves of pieces the host may cancel; `done` and `share` place this loop
/// within the whole call's progress. Returns false when cancelled.
template <class Body>
inline bool for_units(const Context &ctx, const sy_call &call, int64_t units, int64_t unit_bytes,
                      int64_t align, double done, double share, Body &body, Pace pace = {}) {
  const uint64_t total = static_cast<uint64_t>(units) * static_cast<uint64_t>(unit_bytes);
  const uint32_t threads = total < pace.serial ? 1 : thread_count(ctx, call);
  if (threads <= 1 && (call.progress == nullptr || total <= pace.wave)) {
    if (units > 0) body(int64_t{0}, units);
    return true;
  }
  const int64_t bytes_of_align = unit_bytes * align;
  // At least four pieces a thread, so that a slow thread does not hold up the rest.
  uint64_t bytes = total / (uint64_t{threads} * 4) + 1;
  if (bytes > pace.piece) bytes = pace.piece;
  const int64_t piece = (static_cast<int64_t>(bytes) + bytes_of_align - 1) / bytes_of_align * align;
  const int64_t pieces = (units + piece - 1) / piece;
  int64_t wave = pieces;
  if (call.progress != nullptr) {
    const int64_t fit = static_cast<int64_t>(pace.wave * threads) / (piece * unit_bytes);
    wave = fit < 1 ? 1 : fit < pieces ? fit : pieces;
  }
  for (int64_t first = 0; first < pieces; first += wave) {
    const int64_t n = pieces - first < wave ? pieces - first : wave;
    auto one = [&](uint64_t i) {
      const int64_t u0 = (first + static_cast<int64_t>(i)) * piece;
      body(u0, u0 + piece < units ? u0 + piece : units);
    };
    for_each(ctx, static_cast<uint64_t>(n), threads, one);
    if (call.progress == nullptr) continue;
    const double part = static_cast<double>(first + n) / static_cast<double>(pieces);
    if (call.progress(call.progress_arg, done + share * part) != 0) return false;
  }
  return true;
}

inline int32_t cancelled(sy_error *error) { return failure(error, SY_E_CANCELLED, "cancelled"); }

/// memcpy past the cache: whole lines are written without being read first. `from` is in L1.
inline void stream_copy(void *to, const void *from, size_t n) {
  const hn::ScalableTag<uint8_t> d8;
  constexpr size_t kVector = hn::MaxLanes(d8);
  auto *dst = static_cast<uint8_t *>(to);
  const auto *src = static_cast<const uint8_t *>(from);
  size_t head = (64 - reinterpret_cast<uintptr_t>(dst) % 64) % 64;
  if (head > n) head = n;
  memcpy(dst, src, head);
  dst += head;
  src += head;
  n -= head;
  for (; n >= 64; n -= 64, dst += 64, src += 64)
    for (size_t i = 0; i < 64; i += kVector) hn::Stream(hn::LoadU(d8, src + i), d8, dst + i);
  memcpy(dst, src, n);
}

/// Hands out room for output that is either the output itself or, where the call writes more than
/// the cache holds, a tile whose contents are then streamed.
template <size_t kBytes>
struct Tile {
  alignas(64) uint8_t bytes[kBytes];
};

/// f(u, n, out) writes units u..u+n of `unit_bytes` bytes each to `out`.
template <size_t kTileBytes, class F>
inline void write_units(uint8_t *out, bool stream, int64_t unit_bytes, int64_t u, int64_t n, F f) {
  if (!stream) {
    f(int64_t{0}, n, out + u * unit_bytes);
    return;
  }
  Tile<kTileBytes> tile;
  const int64_t fit = static_cast<int64_t>(kTileBytes) / unit_bytes;
  for (int64_t i = 0; i < n; i += fit) {
    const int64_t m = n - i < fit ? n - i : fit;
    if (!f(i, m, tile.bytes)) return;
    stream_copy(out + (u + i) * unit_bytes, tile.bytes, static_cast<size_t>(m * unit_bytes));
  }
}

/// Puts n values as f32 into buf; with `saturate` NaN becomes 0 and infinities the largest finite
/// value of T.
template <class T>
inline void gather_f32(const T *p, int64_t n, bool saturate, float *buf) {
  for (int64_t i = 0; i < n; ++i) {
    float v = load_scalar(p + i);
    const uint32_t bits = bits_of(v);
    if (saturate && (bits & 0x7FFFFFFFu) >= kInfBits) {
      v = (bits & 0x7FFFFFFFu) > kInfBits ? 0.0f
          : bits >> 31 != 0               ? -kLargestFinite<T>
                                          : kLargestFinite<T>;
    }
    buf[i] = v;
  }
}

/// The first of n values that is NaN or infinite, or n.
template <class T>
inline int64_t first_nonfinite(const T *p, int64_t n) {
  for (int64_t i = 0; i < n; ++i)
    if ((bits_of(load_scalar(p + i)) & 0x7FFFFFFFu) >= kInfBits) return i;
  return n;
}

/// What a KernelDef's data says.
struct QuantKernel {
  uint32_t format;    ///< sy_quant_format
  uint8_t type_code;  ///< of the values
  uint8_t type_bits;
  float bytes_per_ns;  ///< of values, one thread, in cache: the author's measurement
};

/// The prior: in-cache speed up to the memory's share, plus waking threads.
inline uint64_t estimate_ns(const QuantKernel &kernel, const Context &ctx, const sy_call &call,
                            const sy_tensor &values) {
  double bytes = static_cast<double>(values.dtype.bits) / 8;
  for (int k = 0; k < values.rank; ++k) bytes *= static_cast<double>(values.shape[k]);
  const bool serial = bytes < static_cast<double>(Pace().serial);
  const double threads = serial ? 1 : thread_count(ctx, call);
  constexpr double kMemoryBytesPerNs = 9;  // per thread, from memory
  double rate = kernel.bytes_per_ns;
  if (bytes > static_cast<double>(kStreamBytes) && rate > kMemoryBytesPerNs)
    rate = kMemoryBytesPerNs;
  return static_cast<uint64_t>(60 + (threads > 1 ? 4000 : 0) + bytes / (rate * threads));
}

/// Host memory, this kernel's format and dtype?
inline int32_t check_quant_call(const QuantKernel &kernel, const sy_call &call,
                                const sy_tensor &values, sy_error *reason) {
  const auto *params = static_cast<const sy_quantize_params *>(call.params);
  if (params->format != kernel.format)
    return failure(reason, SY_E_UNSUPPORTED, "this kernel is for another format");
  if (values.dtype.code != kernel.type_code || values.dtype.bits != kernel.type_bits)
    return failure(reason, SY_E_UNSUPPORTED, "this kernel is for another element type");
  if (values.device_kind != SY_DEVICE_HOST)
    return failure(reason, SY_E_UNSUPPORTED, "the values are not in host memory");
  return SY_OK;
}

}  // namespace quant
}  // namespace SY_ISA
}  // namespace switchyard::cpu
