// SPDX-License-Identifier: Apache-2.0
#pragma once
/// What the kernels of attention are told. Shared by host and device.

#include <cstdint>

namespace switchyard::cuda {

enum class MaskType : std::int32_t { none, boolean, f32, f16, bf16 };

/// The query heads of a key head and their positions are one list of rows: row = position * group +
/// head, so that keys and values are read once for all of them.
struct AttentionArguments {
  const char *q, *k, *v, *mask;
  char *o;
  const float *sinks, *alibi;
  const std::int32_t *lengths;
  float *lse;
  std::int64_t q_strides[4], k_strides[4], v_strides[4], mask_strides[4], o_strides[4];
  std::int64_t lse_strides[3], sinks_stride, alibi_stride, lengths_stride;
  std::int64_t queries, keys, window_left, window_right;
  std::int32_t batch, key_heads, group, rows, dk, dv;
  std::int32_t causal;  ///< sy_causal
  float scale, softcap;
  MaskType mask_type;
  std::int32_t plain;                   ///< scores are products times a positive scale, no more
  std::int32_t q_fast, k_fast, v_fast;  ///< rows of whole 16-byte pieces
  /// Shares of the keys, joined afterwards: [splits][batch][key_heads][rows] of dv sums, and of the
  /// maximum and the denominator.
  std::int32_t splits, row_tiles;
  float *part_sums, *part_scales;
};

inline constexpr int kManyWarps = 8, kFewWarps = 1;
inline constexpr int kScalarThreads = 256, kScalarRows = 64, kScalarKeys = 32;
inline constexpr int kMergeThreads = 128;
/// Keys of a tile for heads of up to `depth` elements.
template <int depth>
inline constexpr int kTileKeys = depth == 256 ? 32 : 64;
inline constexpr int tile_keys(int depth) { return depth == 256 ? kTileKeys<256> : kTileKeys<64>; }
inline constexpr unsigned tensor_shared(int depth, int warps) {
  return static_cast<unsigned>((16 * warps + 4 * tile_keys(depth)) * (depth + 8) * 2);
}
inline constexpr unsigned scalar_shared(int depth) {
  return static_cast<unsigned>(
      ((kScalarRows + 2 * kScalarKeys) * (depth + 4) + kScalarRows * (kScalarKeys + 4)) * 4);
}

}  // namespace switchyard::cuda
