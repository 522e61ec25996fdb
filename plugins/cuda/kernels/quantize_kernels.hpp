// SPDX-License-Identifier: Apache-2.0
#pragma once
/// The kernels of quantize.

#include "quantize_k.hpp"

namespace switchyard::cuda::device {

/// A tile of values: loaded by all threads, a chunk encoded by each, codes written by all.
template <class Codec>
SY_DEVICE void quantize_tile(const QuantArguments &a) {
  const std::int64_t first = block() * kTileValues;
  const Tile tile = tile_of_block();
  load_tile(a, first, tile);
  constexpr int unit = 32 * Codec::kChunks;
  const int index = thread();
  const Chunk c{a, tile, index, first + 32 * index, first + 32 * index < a.values.total};
  float x[32];
  load_chunk(tile, index, x);
  const bool fits = Codec::encode(c, x, tile.codes + index / Codec::kChunks * Codec::kBytes);
  if (!fits && c.inside) {
    const std::int64_t group = a.group > 0 ? a.group : unit;
    const std::int64_t begin = c.first / group * group;
    // A unit with a value that is not finite has that error only.
    bool clean = true;
    for (int k = 0; k < group / 32; ++k) clean = clean && tile.bad[(begin - first) / 32 + k] == 0;
    if (clean) report_overflow(a, begin);
  }
  sync_block();
  const std::int64_t left = (a.values.total - first) / unit;
  const std::int64_t units = left < kTileValues / unit ? left : kTileValues / unit;
  copy_codes_out(a.codes + first / unit * Codec::kBytes, tile.codes, units * Codec::kBytes,
                 a.codes_aligned);
}

/// Parts that share a scale: f(part, value) for this thread's chunk of the tile.
template <class F>
SY_DEVICE void each_value(const QuantArguments &a, std::int64_t first, Tile tile, F f) {
  for (int i = thread(); i < kTileValues; i += kQuantThreads)
    if (first + i < a.values.total) f(first + i, tile.values[tile_index(i)]);
}

/// part_max[p] = the bits of the largest magnitude of part p; order does not matter.
SY_DEVICE void part_maxima(const QuantArguments &a) {
  const std::int64_t first = block() * kTileValues;
  const Tile tile = tile_of_block();
  load_tile(a, first, tile);
  const std::int64_t end =
      first + kTileValues < a.values.total ? first + kTileValues : a.values.total;
  if (first / a.part_size == (end - 1) / a.part_size) {
    std::uint32_t most = 0;
    each_value(a, first, tile, [&](std::int64_t, float x) {
      const std::uint32_t bits = as_bits(x) & 0x7FFFFFFFu;
      most = bits > most ? bits : most;
    });
    SY_UNROLL
    for (int m = 1; m < 32; m *= 2) {
      const std::uint32_t other = shuffle_xor(most, m);
      most = other > most ? other : most;
    }
    if (thread() % 32 == 0) atomic_max(a.part_max + first / a.part_size, most);
    return;
  }
  each_value(a, first, tile, [&](std::int64_t i, float x) {
    atomic_max(a.part_max + i / a.part_size, as_bits(x) & 0x7FFFFFFFu);
  });
}

/// sums[p][b] = the sum of |x| of block b (4,096 values) of part p: a warp a block, lane j its
/// running sum j.
SY_DEVICE void part_sums(const QuantArguments &a) {
  const std::int64_t at = block() * (threads() / 32) + thread() / 32;
  const bool inside = at < a.parts * a.part_blocks;
  const std::int64_t part = inside ? at / a.part_blocks : 0, b = inside ? at % a.part_blocks : 0;
  const std::int64_t begin = part * a.part_size + b * 4096;
  const std::int64_t left = a.part_size - b * 4096;
  const std::int64_t n = !inside ? 0 : left < 4096 ? left : 4096;
  double sum = 0;
  for (std::int64_t k = thread() % 32; k < n; k += 32) {
    const std::int64_t i = begin + k;
    float x = load_value(a.values.data, a.values.flat ? i : offset_of(a.values, i), a.values.type);
    if (!finite(x)) {
      if (!a.saturate) atomic_min(a.error, static_cast<std::uint64_t>(i) * 2);
      const bool nan = (as_bits(x) & 0x7FFFFFFFu) > kInfinity;
      x = nan ? 0.0f : largest_of(a.values.type);
    }
    sum += static_cast<double>(magnitude(x));
  }
  SY_UNROLL
  for (int m = 16; m >= 1; m /= 2) sum += shuffle_xor(sum, m);
  if (inside && thread() % 32 == 0) a.sums[at] = sum;
}

/// Block sums joined pairwise level by level, an odd last one moving up; then BitNet's scale. A
/// block of threads a part.
SY_DEVICE void part_means(const QuantArguments &a) {
  const std::int64_t part = block();
  double *sums = a.sums + part * a.part_blocks;
  for (std::int64_t step = 1; step < a.part_blocks; step *= 2) {
    for (std::int64_t i = 2 * step * thread(); i + step < a.part_blocks; i += 2 * step * threads())
      sums[i] += sums[i + step];
    sync_block();
  }
  if (thread() == 0)
    a.part_scale[part] = ternary_scale(a.part_blocks > 0 ? sums[0] : 0.0, a.part_size);
}

/// Scale of int8 parts from their maxima: a thread a part.
SY_DEVICE void part_scales(const QuantArguments &a) {
  const std::int64_t part = block() * threads() + thread();
  if (part < a.parts) a.part_scale[part] = as_float(a.part_max[part]) / 127.0f;
}

/// Uniform in [0, 1) in steps of 2^-24: a word of Philox4x32-10 at i / 4.
SY_DEVICE float uniform(std::uint64_t seed, std::int64_t i) {
  const auto at = static_cast<std::uint64_t>(i) / 4;
  std::uint32_t c[4] = {static_cast<std::uint32_t>(at), static_cast<std::uint32_t>(at >> 32), 0, 0};
  std::uint32_t key0 = static_cast<std::uint32_t>(seed),
                key1 = static_cast<std::uint32_t>(seed >> 32);
  SY_UNROLL
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t x = std::uint64_t{0xD2511F53u} * c[0],
                        y = std::uint64_t{0xCD9E8D57u} * c[2];
    const std::uint32_t c0 = static_cast<std::uint32_t>(y >> 32) ^ c[1] ^ key0;
    const std::uint32_t c2 = static_cast<std::uint32_t>(x >> 32) ^ c[3] ^ key1;
    c[1] = static_cast<std::uint32_t>(y);
    c[3] = static_cast<std::uint32_t>(x);
    c[0] = c0;
    c[2] = c2;
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  const int word = static_cast<int>(i % 4);
  return static_cast<float>((word == 0   ? c[0]
                             : word == 1 ? c[1]
                             : word == 2 ? c[2]
                                         : c[3]) >>
                            8) *
         0x1p-24f;
}

SY_DEVICE int int8_code(const QuantArguments &a, float x, float scale, std::int64_t i) {
  if (scale == 0.0f) return 0;
  const float v = x / scale;
  float q = even(v);
  if (a.stochastic) {
    const auto whole = static_cast<float>(static_cast<int>(v));
    const float low = whole > v ? whole - 1.0f : whole;
    q = low + (uniform(a.seed, i) < v - low ? 1.0f : 0.0f);
  }
  return static_cast<int>(q < -127.0f ? -127.0f : q > 127.0f ? 127.0f : q);
}

enum class PartCodes { int8, ternary, tern2, i2s };

/// Codes of values whose parts have their scales: into bytes, 2-bit words, or i2_s' planes.
template <PartCodes kind>
SY_DEVICE void part_codes(const QuantArguments &a) {
  const std::int64_t first = block() * kTileValues;
  const Tile tile = tile_of_block();
  load_tile(a, first, tile);
  const std::int64_t left = a.values.total - first;
  const int n = left < kTileValues ? static_cast<int>(left) : kTileValues;
  const bool same = first / a.part_size == (first + n - 1) / a.part_size;
  const float common = a.part_scale[first / a.part_size];
  const auto code = [&](int i, float x) {
    const float scale = same ? common : a.part_scale[(first + i) / a.part_size];
    if (kind == PartCodes::int8) return int8_code(a, x, scale, first + i);
    return ternary_code(x, 1.0f / scale);
  };
  if constexpr (kind == PartCodes::int8 || kind == PartCodes::ternary) {
    for (int i = 4 * thread(); i < n; i += 4 * kQuantThreads) {
      std::uint32_t word = 0;
      SY_UNROLL
      for (int e = 0; e < 4; ++e)
        if (i + e < n)
          word |= static_cast<std::uint32_t>(code(i + e, tile.values[tile_index(i) + e]) & 255)
                  << (8 * e);
      put_word(tile.codes + i, word);
    }
    sync_block();
    copy_codes_out(a.codes + first, tile.codes, n, a.codes_aligned);
  } else {
    for (int byte = thread(); byte < n / 4; byte += kQuantThreads) {
      int bits = 0;
      for (int k = 0; k < 4; ++k) {
        const int i =
            kind == PartCodes::tern2 ? 4 * byte + k : 128 * (byte / 32) + byte % 32 + 32 * k;
        const int t = code(i, tile.values[tile_index(i)]) + 1;
        bits |= t << (kind == PartCodes::tern2 ? 2 * k : 6 - 2 * k);
      }
      tile.codes[byte] = static_cast<std::uint8_t>(bits);
    }
    sync_block();
    copy_codes_out(a.codes + first / 4, tile.codes, n / 4, a.codes_aligned);
  }
}

/// What is stored of the parts' scales: tern2's groups, i2_s' tail. A thread a group or byte.
SY_DEVICE void tern2_scales(const QuantArguments &a) {
  const std::int64_t g = block() * threads() + thread();
  if (g * a.group >= a.values.total) return;
  const std::int64_t part = g * a.group / a.part_size;
  const float m = a.part_scale[part];
  const float stored = rounded_to(a.scale_type, m);
  if (!finite(rounded_to(a.scale_type, 2.0f * stored))) report_overflow(a, part * a.part_size);
  store_value(a.scales, g, a.scale_type, m);
  store_value(a.biases, g, a.scale_type, -m);
}
SY_DEVICE void i2s_tail(const QuantArguments &a) {
  const int i = thread();
  const std::uint32_t bits = as_bits(a.part_scale[0]);
  a.codes[a.values.total / 4 + i] = static_cast<std::uint8_t>(i < 4 ? bits >> (8 * i) : 0);
}

#define SY_QUANTIZE(NAME, CODEC) \
  SY_KERNEL(quantize_##NAME, QuantArguments, kQuantThreads, 2) { quantize_tile<CODEC>(a); }
SY_QUANTIZE(q4_0, SymmetricCodec<4>)
SY_QUANTIZE(q5_0, SymmetricCodec<5>)
SY_QUANTIZE(q4_1, OffsetCodec<4>)
SY_QUANTIZE(q5_1, OffsetCodec<5>)
SY_QUANTIZE(q8_0, Q8Codec)
SY_QUANTIZE(q4_k, Q4KCodec)
SY_QUANTIZE(q6_k, Q6KCodec)
SY_QUANTIZE(tq1_0, Tq1Codec)
SY_QUANTIZE(tq2_0, Tq2Codec)
SY_QUANTIZE(q2_0, Q2Codec)
SY_QUANTIZE(mxfp4_ggml, Mxfp4GgmlCodec)
SY_QUANTIZE(mxfp4, Mxfp4Codec)
SY_QUANTIZE(mlx_affine2, AffineCodec<2>)
SY_QUANTIZE(mlx_affine3, AffineCodec<3>)
SY_QUANTIZE(mlx_affine4, AffineCodec<4>)
SY_QUANTIZE(mlx_affine5, AffineCodec<5>)
SY_QUANTIZE(mlx_affine6, AffineCodec<6>)
SY_QUANTIZE(mlx_affine8, AffineCodec<8>)
#undef SY_QUANTIZE

#define SY_PARTS(NAME, FUNCTION) \
  SY_KERNEL(quantize_##NAME, QuantArguments, kQuantThreads, 2) { FUNCTION(a); }
SY_PARTS(part_maxima, part_maxima)
SY_PARTS(part_scales, part_scales)
SY_PARTS(part_sums, part_sums)
SY_PARTS(part_means, part_means)
SY_PARTS(int8, part_codes<PartCodes::int8>)
SY_PARTS(ternary, part_codes<PartCodes::ternary>)
SY_PARTS(tern2, part_codes<PartCodes::tern2>)
SY_PARTS(i2_s, part_codes<PartCodes::i2s>)
SY_PARTS(tern2_scales, tern2_scales)
SY_PARTS(i2_s_tail, i2s_tail)
#undef SY_PARTS

}  // namespace switchyard::cuda::device
