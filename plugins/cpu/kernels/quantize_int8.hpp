// SPDX-License-Identifier: Apache-2.0
#pragma once
/// int8 with f32 scales: the largest magnitude of a tensor, row or channel, then codes, rounded to
/// even or at random.

#include "philox_simd.hpp"
#include "quant_driver.hpp"

namespace switchyard::cpu {
inline namespace SY_ISA {
namespace quant {

/// Largest magnitude of n values as bits: at least kInfBits if any is not finite.
template <class T>
inline uint32_t largest_bits(const T *x, int64_t n) {
  const DU du;
  VU acc[4] = {hn::Zero(du), hn::Zero(du), hn::Zero(du), hn::Zero(du)};
  int64_t i = 0;
  for (; i + kCodes <= n; i += kCodes)
    for (int k = 0; k < 4; ++k)
      acc[k] = hn::Max(acc[k], magnitude_bits(load_f32(x + i + k * kLanes)));
  acc[0] = hn::Max(hn::Max(acc[0], acc[1]), hn::Max(acc[2], acc[3]));
  uint32_t most = hn::GetLane(hn::MaxOfLanes(du, acc[0]));
  for (; i < n; ++i) {
    const uint32_t bits = bits_of(load_scalar(x + i)) & 0x7FFFFFFFu;
    most = bits > most ? bits : most;
  }
  return most;
}

/// How values become codes.
struct Int8Rule {
  float scale;
  bool saturate, stochastic;
  uint64_t seed;
};

/// kCodes codes of finite values; with kStochastic `draws` holds one number for each.
template <bool kStochastic, class T>
HWY_INLINE void int8_codes(const T *x, VF scale, const float *draws, uint8_t *out) {
  const DF df;
  const VF top = hn::Set(df, 127.0f);
  const auto code = [&](int k) HWY_ATTR {
    VF v = hn::Div(load_f32(x + k * kLanes), scale);
    if constexpr (kStochastic) {
      const VF low = hn::Floor(v);
      const VF fraction = hn::Sub(v, low);
      const auto up = hn::Lt(hn::LoadU(df, draws + k * kLanes), fraction);
      v = hn::Add(low, hn::IfThenElseZero(up, hn::Set(df, 1.0f)));
    }
    return to_int(hn::Min(hn::Max(v, hn::Neg(top)), top));
  };
  hn::StoreU(narrow<true>(code(0), code(1), code(2), code(3)), D8(), out);
}

/// Codes of n values, the first of which has `index` in the call.
template <class T>
inline void int8_run(const T *x, int64_t n, int64_t index, const Int8Rule &rule, uint8_t *out) {
  if (rule.scale == 0.0f) {
    memset(out, 0, static_cast<size_t>(n));
    return;
  }
  const VF scale = hn::Set(DF(), rule.scale);
  // Draws come in fours, which may begin before the first value.
  alignas(64) float draws[2 * kCodes];
  const int64_t skip = index % 4;
  for (int64_t i = 0; i < n; i += kCodes) {
    const int64_t m = n - i < kCodes ? n - i : kCodes;
    if (rule.stochastic) {
      draw(rule.seed, index - skip + i, draws);
      if (skip != 0) draw(rule.seed, index - skip + i + kCodes, draws + kCodes);
    }
    const bool whole = m == kCodes && !rule.saturate;
    float padded[kCodes];
    uint8_t bytes[kCodes];
    if (!whole) {
      for (int64_t k = m; k < kCodes; ++k) padded[k] = 0.0f;
      gather_f32(x + i, m, rule.saturate, padded);
    }
    uint8_t *to = m == kCodes ? out + i : bytes;
    if (rule.stochastic) {
      if (whole)
        int8_codes<true>(x + i, scale, draws + skip, to);
      else
        int8_codes<true>(padded, scale, draws + skip, to);
    } else if (whole) {
      int8_codes<false>(x + i, scale, draws, to);
    } else {
      int8_codes<false>(padded, scale, draws, to);
    }
    if (m != kCodes) memcpy(out + i, bytes, static_cast<size_t>(m));
  }
}

/// Largest magnitude of values begin..end, as bits; reports the first that is not finite unless
/// they saturate.
template <class T>
inline uint32_t largest_of(const Rows &rows, int64_t begin, int64_t end, bool saturate,
                           FirstError *first) {
  uint32_t most = 0;
  for_runs<const T>(rows, 1, begin, end, [&](const T *p, int64_t u, int64_t n) {
    uint32_t bits = largest_bits(p, n);
    if (HWY_UNLIKELY(bits >= kInfBits)) {
      if (!saturate) {
        first->report(u + first_nonfinite(p, n), false);
        return false;
      }
      bits = 0;
      float buf[256];
      for (int64_t i = 0; i < n; i += 256) {
        const int64_t m = n - i < 256 ? n - i : 256;
        gather_f32(p + i, m, true, buf);
        const uint32_t part = largest_bits(buf, m);
        bits = part > bits ? part : bits;
      }
    }
    most = bits > most ? bits : most;
    return true;
  });
  return most;
}

/// Where one scale's values lie within the whole call.
struct Int8Part {
  int64_t index, begin, end;
  double done, share;  ///< of the call's progress
};

/// One scale, threads within. False when cancelled.
template <class T>
bool int8_part(const Context &ctx, const sy_call &call, const Rows &rows, const Int8Part &part,
               Int8Rule rule, float *scales, uint8_t *codes, FirstError *first) {
  const int64_t n = part.end - part.begin, size = sizeof(T);
  uint32_t most = 0;
  auto measure = [&](int64_t u0, int64_t u1) {
    const uint32_t mine =
        largest_of<T>(rows, part.begin + u0, part.begin + u1, rule.saturate, first);
    uint32_t seen = __atomic_load_n(&most, __ATOMIC_RELAXED);
    while (mine > seen && !__atomic_compare_exchange_n(&most, &seen, mine, true, __ATOMIC_RELAXED,
                                                       __ATOMIC_RELAXED)) {
    }
  };
  constexpr int64_t kAlign = 4096;
  if (!for_units(ctx, call, n, size, kAlign, part.done, part.share / 2, measure)) return false;
  if (first->key != ~uint64_t{0}) return true;
  rule.scale = float_of(most) / 127.0f;
  scales[part.index] = rule.scale;
  const bool stream = static_cast<uint64_t>(n) > kStreamBytes;
  auto encode = [&](int64_t u0, int64_t u1) {
    // From the end: what was read last is still in the cache.
    const int64_t begin = part.end - u1, end = part.end - u0;
    for_runs<const T>(rows, 1, begin, end, [&](const T *p, int64_t u, int64_t count) {
      write_units<4096>(codes, stream, 1, u, count, [&](int64_t at, int64_t k, uint8_t *to) {
        int8_run(p + at, k, u + at, rule, to);
        return true;
      });
      return true;
    });
    if (stream) hwy::FlushStream();
  };
  return for_units(ctx, call, n, size, kAlign, part.done + part.share / 2, part.share / 2, encode);
}

template <class T>
int32_t quantize_int8(const KernelDef &, const Context &ctx, const sy_call &call, sy_error *error) {
  const auto &params = *static_cast<const sy_quantize_params *>(call.params);
  const sy_tensor &x = *call.inputs[SY_QUANTIZE_IN_X];
  const Rows rows(x);
  auto *codes = reinterpret_cast<uint8_t *>(first_byte(*call.outputs[SY_QUANTIZE_OUT_CODES]));
  auto *scales = reinterpret_cast<float *>(first_byte(*call.outputs[SY_QUANTIZE_OUT_SCALES]));
  const bool knows_rounding = params.struct_size >= sizeof(params);
  const Int8Rule rule{0.0f, params.nonfinite == SY_NONFINITE_SATURATE,
                      knows_rounding && params.rounding == SY_ROUNDING_STOCHASTIC,
                      knows_rounding ? params.seed : 0};
  const int64_t total = rows.values();
  FirstError first;
  if (total == 0) {
    const int64_t parts = call.outputs[SY_QUANTIZE_OUT_SCALES]->shape[0];
    for (int64_t s = 0; s < parts; ++s) scales[s] = 0.0f;
    return SY_OK;
  }
  const int64_t unit = params.granularity == SY_GRANULARITY_TENSOR ? total
                       : params.granularity == SY_GRANULARITY_ROW  ? x.shape[x.rank - 1]
                                                                   : total / x.shape[0];
  bool finished = true;
  constexpr int64_t kLong = 1 << 20;
  if (unit < kLong && unit < total) {
    auto piece = [&](int64_t s0, int64_t s1) {
      for (int64_t s = s0; s < s1; ++s) {
        if (first.before(s * unit)) return;
        Int8Rule mine = rule;
        const uint32_t most = largest_of<T>(rows, s * unit, (s + 1) * unit, rule.saturate, &first);
        if (first.before((s + 1) * unit)) return;
        scales[s] = mine.scale = float_of(most) / 127.0f;
        for_runs<const T>(rows, 1, s * unit, (s + 1) * unit, [&](const T *p, int64_t u, int64_t n) {
          int8_run(p, n, u, mine, codes + u);
          return true;
        });
      }
    };
    finished =
        for_units(ctx, call, total / unit, unit * static_cast<int64_t>(sizeof(T)), 1, 0, 1, piece);
  } else {
    const double share = static_cast<double>(unit) / static_cast<double>(total);
    for (int64_t s = 0; s * unit < total && finished && first.key == ~uint64_t{0}; ++s) {
      finished = int8_part<T>(ctx, call, rows,
                              {s, s * unit, (s + 1) * unit, static_cast<double>(s) * share, share},
                              rule, scales, codes, &first);
      // Parts of a few megabytes are done between two polls of their own.
      if (unit < total && call.progress != nullptr &&
          call.progress(call.progress_arg, static_cast<double>(s + 1) * share) != 0)
        finished = false;
    }
  }
  if (!finished) return cancelled(error);
  return first.status(error, "");
}

}  // namespace quant
}  // namespace SY_ISA
}  // namespace switchyard::cpu
