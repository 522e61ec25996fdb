// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Ternary codes and scales for a tensor, rows or groups, and the containers they are stored in:
/// plain int8, MLX's two bits (tern2), BitNet's i2_s.

#include "quantize_ternary_guess.hpp"

namespace switchyard::cpu {
inline namespace SY_ISA {
namespace quant {

inline uint8_t *output_bytes(const sy_call &call, int slot) {
  return reinterpret_cast<uint8_t *>(first_byte(*call.outputs[slot]));
}

// A sink: fits(m): can the scale be stored? scale(s, m): that of part s. bytes(n): of n codes.
// codes(p, u, n, rule, stream): those of n values at p, u being the first one's index in the call;
// u and n are multiples of the container's unit. spread(u, n, m): what else these values have.
// patch(u, t): the code of value u is t after all.

template <class T>
struct PlainSink {
  uint8_t *out;
  float *scales;

  bool fits(float) const { return true; }
  void scale(int64_t s, float m) const { scales[s] = m; }
  int64_t bytes(int64_t n) const { return n; }
  template <class Rule>
  void codes(const T *p, int64_t u, int64_t n, Rule rule, bool stream) const {
    write_units<4096>(out, stream, 1, u, n, [&](int64_t at, int64_t k, uint8_t *to) {
      ternary_codes(p + at, k, rule, reinterpret_cast<int8_t *>(to));
      return true;
    });
  }
  void spread(int64_t, int64_t, float) const {}
  void patch(int64_t u, int8_t t) const { out[u] = static_cast<uint8_t>(t); }
};

/// pack(tile, to) for every kUnit values, kBytes each, of which codes + 1 lie in the tile.
template <int kUnit, int kBytes, class T, class Rule, class Pack>
HWY_INLINE void pack_ternary(const T *p, int64_t u, int64_t n, Rule rule, bool stream, uint8_t *out,
                             Pack pack) {
  constexpr int64_t kTile = 4096;
  write_units<4096>(
      out, stream, kBytes, u / kUnit, n / kUnit, [&](int64_t at, int64_t m, uint8_t *to) {
        alignas(64) uint8_t tile[kTile];
        for (int64_t i = 0; i < m * kUnit; i += kTile) {
          const int64_t k = m * kUnit - i < kTile ? m * kUnit - i : kTile;
          ternary_codes(p + at * kUnit + i, k, rule, reinterpret_cast<int8_t *>(tile));
          for (int64_t j = 0; j < k; j += kUnit, to += kBytes) pack(tile + j, to);
        }
        return true;
      });
}

HWY_INLINE void put_two_bits(uint8_t *byte, int64_t shift, int code) {
  *byte = static_cast<uint8_t>((*byte & ~(3 << shift)) | code << shift);
}

template <class T>
struct Tern2Sink {
  uint8_t *out;
  T *scales, *biases;
  int64_t group;

  bool fits(float m) const {
    T stored, twice;
    store_scalar(m, &stored);
    store_scalar(2.0f * load_scalar(&stored), &twice);
    return (bits_of(load_scalar(&twice)) & 0x7FFFFFFFu) < kInfBits;
  }
  void scale(int64_t, float) const {}
  int64_t bytes(int64_t n) const { return n / 4; }
  template <class Rule>
  void codes(const T *p, int64_t u, int64_t n, Rule rule, bool stream) const {
    pack_ternary<32, 8>(p, u, n, rule, stream, out, [](const uint8_t *tile, uint8_t *to) HWY_ATTR {
      const hn::CappedTag<uint8_t, 32> d8;
      const hn::Repartition<uint32_t, decltype(d8)> d32;
      const auto codes = hn::Add(hn::Load(d8, tile), hn::Set(d8, 1));
      auto w = hn::BitCast(d32, codes);  // four codes each: 8 bits from 32
      w = hn::Or(w, hn::ShiftRight<6>(w));
      w = hn::And(hn::Or(w, hn::ShiftRight<12>(hn::And(w, hn::Set(d32, 0x000F0000u)))),
                  hn::Set(d32, 255u));
      const hn::Rebind<uint8_t, decltype(d32)> small;
      hn::StoreU(hn::TruncateTo(small, w), small, to);
    });
  }
  void spread(int64_t u, int64_t n, float m) const {
    for (int64_t g = u / group; g < (u + n) / group; ++g) {
      store_scalar(m, scales + g);
      store_scalar(-m, biases + g);
    }
  }
  void patch(int64_t u, int8_t t) const { put_two_bits(out + u / 4, u % 4 * 2, t + 1); }
};

template <class T>
struct I2SSink {
  uint8_t *out;
  int64_t values;

  bool fits(float) const { return true; }
  void scale(int64_t, float m) const {
    memset(out + values / 4, 0, 32);
    memcpy(out + values / 4, &m, sizeof(m));
  }
  int64_t bytes(int64_t n) const { return n / 4; }
  template <class Rule>
  void codes(const T *p, int64_t u, int64_t n, Rule rule, bool stream) const {
    pack_ternary<128, 32>(p, u, n, rule, stream, out,
                          [](const uint8_t *tile, uint8_t *to) HWY_ATTR {
                            const hn::CappedTag<uint8_t, 32> d8;
                            const auto at = [&](int part) HWY_ATTR {
                              return hn::Add(hn::Load(d8, tile + 32 * part), hn::Set(d8, 1));
                            };
                            auto byte = at(0);
                            for (int part = 1; part < 4; ++part)
                              byte = hn::Or(hn::ShiftLeft<2>(byte), at(part));
                            hn::StoreU(byte, d8, to);
                          });
  }
  void spread(int64_t, int64_t, float) const {}
  void patch(int64_t u, int8_t t) const {
    put_two_bits(out + u / 128 * 32 + u % 32, 6 - u % 128 / 32 * 2, t + 1);
  }
};

/// Where one scale's values lie within the whole call.
struct TernaryPart {
  int64_t index;        ///< of the scale
  int64_t first_index;  ///< of the values, in the call's logical order
  double done, share;   ///< of the call's progress
};

/// One scale over all of `rows`: sums, then codes. With a guess most codes come with the sums.
template <class T, class Sink>
struct TernaryTensor {
  const Context &ctx;
  const sy_call &call;
  const Rows &rows;
  const Sink &sink;
  const bool saturate;
  const int64_t first_index;  ///< of the values, in the call's logical order
  const int64_t n, blocks, per_partial, count;
  GuessSpace space{};
  Guess guess{};
  bool stream;
  FirstError errors{};
  double partials[kMostPartials];

  TernaryTensor(const Context &context, const sy_call &whole, const Rows &x, const Sink &to,
                bool saturating, int64_t first)
      : ctx(context),
        call(whole),
        rows(x),
        sink(to),
        saturate(saturating),
        first_index(first),
        n(x.values()),
        blocks((n + kSumBlock - 1) / kSumBlock),
        per_partial(blocks_of_partial(blocks)),
        count((blocks + per_partial - 1) / per_partial),
        stream(static_cast<uint64_t>(to.bytes(n)) > kStreamBytes) {}

  const T *values() const { return reinterpret_cast<const T *>(rows.base); }

  /// Whether to guess, and what.
  void prepare() {
    if (rows.count != 1 || saturate || static_cast<uint64_t>(n) * sizeof(T) < kGuessBytes ||
        call.workspace_size < guess_bytes(count))
      return;
    space = guess_space(call.workspace);
    guess = make_guess(ctx, call, values(), blocks, space.sampled);
    stream = stream || guess.made();
  }

  void sum(int64_t p) {
    const int64_t begin = p * per_partial;
    const int64_t end = begin + per_partial < blocks ? begin + per_partial : blocks;
    PairwiseSum total;
    if (!guess.made()) {
      for (int64_t b = begin; b < end; ++b) total.add(sum_block_at<T>(rows, b, saturate, &errors));
    } else {
      const T *first = values() + begin * kSumBlock;
      Guesser<T> guesser{guess, first, space.kept + p * kMostKept};
      for (int64_t b = begin; b < end; ++b) {
        const int64_t at = b * kSumBlock, m = n - at < kSumBlock ? n - at : kSumBlock;
        const double s = sum_block_at<T>(rows, b, false, &errors);
        total.add(s);
        // No magnitude exceeds the sum.
        if (!(s * static_cast<double>(guess.factor) < 0x1p30)) guesser.count = kNotCoded;
        if (guesser.count != kNotCoded)
          sink.codes(values() + at, first_index + at, m, &guesser, stream);
      }
      space.counts[p] = guesser.count;
    }
    partials[p] = total.total();
  }

  /// Codes of the values of partial sum p; `m` is what the guess was about.
  void finish(int64_t p, CodeRule rule, float m) {
    const int64_t begin = p * per_partial * kSumBlock;
    const int64_t size = per_partial * kSumBlock;
    const int64_t end = begin + size < n ? begin + size : n;
    if (guess.made() && guess.allows(m) && space.counts[p] != kNotCoded) {
      const Doubtful *kept = space.kept + p * kMostKept;
      for (uint32_t i = 0; i < space.counts[p]; ++i)
        sink.patch(first_index + begin + kept[i].at, code_of(kept[i].value, rule));
    } else {
      for_runs<const T>(rows, 1, begin, end, [&](const T *x, int64_t u, int64_t k) {
        sink.codes(x, first_index + u, k, rule, stream);
        return true;
      });
    }
    sink.spread(first_index + begin, end - begin, m);
  }
};

/// False when cancelled; errors go to `first`.
template <class T, class Sink>
bool ternary_tensor(const Context &ctx, const sy_call &call, const Rows &rows, bool saturate,
                    const TernaryPart &part, const Sink &sink, FirstError *first) {
  TernaryTensor<T, Sink> work(ctx, call, rows, sink, saturate, part.first_index);
  work.prepare();
  const auto bytes =
      static_cast<int64_t>(work.per_partial * kSumBlock * static_cast<int64_t>(sizeof(T)));
  const auto flush = [&] {
    if (work.stream) hwy::FlushStream();
  };
  auto sum_piece = [&](int64_t p0, int64_t p1) {
    for (int64_t p = p0; p < p1; ++p) work.sum(p);
    flush();
  };
  if (!for_units(ctx, call, work.count, bytes, 1, part.done, part.share / 2, sum_piece))
    return false;
  if (work.errors.key != ~uint64_t{0}) {
    first->report(part.first_index + static_cast<int64_t>(work.errors.key / 2), false);
    return true;
  }
  PairwiseSum sum;
  for (int64_t p = 0; p < work.count; ++p) sum.add(work.partials[p]);
  const float m = scale_of(sum.total(), work.n);
  if (!sink.fits(m)) {
    first->report(part.first_index, true);
    return true;
  }
  sink.scale(part.index, m);
  const CodeRule rule = code_rule(m, work.n, saturate);
  auto code_piece = [&](int64_t p0, int64_t p1) {
    // From the end: what the sums read last is still in the cache.
    for (int64_t p = p0; p < p1; ++p) work.finish(work.count - 1 - p, rule, m);
    flush();
  };
  return for_units(ctx, call, work.count, bytes, 1, part.done + part.share / 2, part.share / 2,
                   code_piece);
}

/// For the workspace of calls with one scale: what a guess needs where one may be made.
inline uint64_t ternary_workspace(const KernelDef &, const Context &, const sy_call &call) {
  const sy_tensor &x = *call.inputs[SY_QUANTIZE_IN_X];
  const Rows rows(x);
  int64_t n = rows.values();
  if (static_cast<const sy_quantize_params *>(call.params)->granularity == SY_GRANULARITY_ROW)
    n = x.shape[x.rank - 1];
  if (static_cast<uint64_t>(n) * (x.dtype.bits / 8) < kGuessBytes) return 0;
  const int64_t blocks = (n + kSumBlock - 1) / kSumBlock, each = blocks_of_partial(blocks);
  return guess_bytes((blocks + each - 1) / each);
}

/// One scale per `unit` values that lie together.
template <class T, class Sink>
bool ternary_units(const Context &ctx, const sy_call &call, const Rows &rows, int64_t unit,
                   bool saturate, const Sink &sink, FirstError *first) {
  auto piece = [&](int64_t u0, int64_t u1) {
    if (first->before(u0 * unit)) return;
    for_runs<const T>(rows, unit, u0, u1, [&](const T *p, int64_t u, int64_t count) {
      for (int64_t k = 0; k < count; ++k) {
        const T *x = p + k * unit;
        PairwiseSum sum;
        for (int64_t i = 0; i < unit; i += kSumBlock) {
          const int64_t n = unit - i < kSumBlock ? unit - i : kSumBlock;
          double s = block_sum(x + i, n);
          if (HWY_UNLIKELY(!is_finite(s))) {
            if (!saturate) {
              first->report((u + k) * unit + i + first_nonfinite(x + i, n), false);
              return false;
            }
            float buf[kSumBlock];
            gather_f32(x + i, n, true, buf);
            s = block_sum(buf, n);
          }
          sum.add(s);
        }
        const float m = scale_of(sum.total(), unit);
        if (!sink.fits(m)) {
          first->report((u + k) * unit, true);
          return false;
        }
        sink.scale(u + k, m);
        sink.codes(x, (u + k) * unit, unit, code_rule(m, unit, saturate), false);
        sink.spread((u + k) * unit, unit, m);
      }
      return true;
    });
  };
  return for_units(ctx, call, unit > 0 ? rows.values() / unit : 0,
                   unit * static_cast<int64_t>(sizeof(T)), 1, 0, 1, piece);
}

/// A view of one row.
inline sy_tensor row_of(const sy_tensor &x, const Rows &rows, int64_t row) {
  sy_tensor view = x;
  view.handle = rows.row(row);
  view.byte_offset = 0;
  view.rank = 1;
  view.shape[0] = x.shape[x.rank - 1];
  view.strides[0] = 1;
  return view;
}

/// The whole call.
template <class T, class Sink>
int32_t quantize_to_sink(const Context &ctx, const sy_call &call, const Sink &sink,
                         sy_error *error) {
  const auto &params = *static_cast<const sy_quantize_params *>(call.params);
  const sy_tensor &x = *call.inputs[SY_QUANTIZE_IN_X];
  const Rows rows(x);
  const bool saturate = params.nonfinite == SY_NONFINITE_SATURATE;
  FirstError first;
  bool finished = true;
  if (params.granularity == SY_GRANULARITY_TENSOR) {
    finished = ternary_tensor<T>(ctx, call, rows, saturate, {0, 0, 0, 1}, sink, &first);
  } else if (params.granularity == SY_GRANULARITY_GROUP) {
    finished = ternary_units<T>(ctx, call, rows, params.group_size, saturate, sink, &first);
  } else {
    const int64_t cols = x.shape[x.rank - 1];
    int64_t n = 1;
    for (int k = 0; k + 1 < x.rank; ++k) n *= x.shape[k];
    constexpr int64_t kLongRow = 1 << 20;
    if (cols == 0) {
      for (int64_t r = 0; r < n; ++r) sink.scale(r, scale_of(0, 0));
    } else if (cols < kLongRow) {
      finished = ternary_units<T>(ctx, call, rows, cols, saturate, sink, &first);
    } else {
      Rows each = rows;  // rows one by one, threads within each
      each.count = n;
      for (int64_t r = 0; r < n && finished && first.key == ~uint64_t{0}; ++r) {
        const sy_tensor view = row_of(x, each, r);
        const double share = 1.0 / static_cast<double>(n);
        finished =
            ternary_tensor<T>(ctx, call, Rows(view), saturate,
                              {r, r * cols, static_cast<double>(r) * share, share}, sink, &first);
        // Rows of a few megabytes are done between two polls of their own.
        if (call.progress != nullptr &&
            call.progress(call.progress_arg, static_cast<double>(r + 1) * share) != 0)
          finished = false;
      }
    }
  }
  if (!finished) return cancelled(error);
  return first.status(error,
                      "twice the scale does not fit the scales' dtype (index names the first value "
                      "that shares it); scale the input down");
}

template <class T>
int32_t quantize_ternary(const KernelDef &, const Context &ctx, const sy_call &call,
                         sy_error *error) {
  return quantize_to_sink<T>(
      ctx, call,
      PlainSink<T>{output_bytes(call, SY_QUANTIZE_OUT_CODES),
                   reinterpret_cast<float *>(output_bytes(call, SY_QUANTIZE_OUT_SCALES))},
      error);
}

template <class T>
int32_t quantize_tern2(const KernelDef &, const Context &ctx, const sy_call &call,
                       sy_error *error) {
  return quantize_to_sink<T>(
      ctx, call,
      Tern2Sink<T>{output_bytes(call, SY_QUANTIZE_OUT_CODES),
                   reinterpret_cast<T *>(output_bytes(call, SY_QUANTIZE_OUT_SCALES)),
                   reinterpret_cast<T *>(output_bytes(call, SY_QUANTIZE_OUT_BIASES)),
                   static_cast<const sy_quantize_params *>(call.params)->group_size},
      error);
}

template <class T>
int32_t quantize_i2_s(const KernelDef &, const Context &ctx, const sy_call &call, sy_error *error) {
  const int64_t n = Rows(*call.inputs[SY_QUANTIZE_IN_X]).values();
  return quantize_to_sink<T>(ctx, call, I2SSink<T>{output_bytes(call, SY_QUANTIZE_OUT_CODES), n},
                             error);
}

}  // namespace quant
}  // namespace SY_ISA
}  // namespace switchyard::cpu
