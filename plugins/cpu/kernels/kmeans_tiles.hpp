// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Codes of 8 bits multiplied by AMX tiles, which the caller has asked for: 16 centroids by 16
/// points at a time. Codes of points are words of four, word by word, as everywhere; those of
/// centroids are rows of 64 bytes. Both are signed: no offset has to be undone. Part of the kernel
/// sources (needs SY_ISA, 512-bit vectors).

#include "kmeans_codes.hpp"
#include "kmeans_score_int8.hpp"
#include "tile_products.hpp"

namespace switchyard::cpu {
inline namespace SY_ISA {
namespace {

/// Rows of centroids, two groups a tile: [tiles][steps][kTileHeight][kTileWords] words.
struct TileRows {
  static constexpr int64_t kTile = kTileHeight * kTileWords, kHalves = kTileHeight / kGroup;
  static_assert(kHalves * kGroup == kTileHeight);

  static int64_t words_of(int64_t words) { return tile_steps(words).padded(); }
  static uint64_t code_words(uint64_t groups, int64_t words) {
    return (groups + kHalves - 1) / kHalves *
           static_cast<uint64_t>(tile_steps(words).count * kTile);
  }
  static int64_t word_at(int64_t g, int64_t r, int64_t word, int64_t words) {
    const TileSteps steps = tile_steps(words);
    const int64_t step = word / steps.words;
    return (g / kHalves * steps.count + step) * kTile + (g % kHalves * kGroup + r) * kTileWords +
           (word - step * steps.words);
  }
  /// What pads the last step counts as products; a group that pads the last tile is not looked at.
  static void clear_group(void *codes, int64_t g, int64_t words) {
    const TileSteps steps = tile_steps(words);
    for (int64_t s = 0; s < steps.count; ++s)
      memset(static_cast<int32_t *>(codes) + word_at(g, 0, s * steps.words, words), 0,
             static_cast<size_t>(kGroup * kTileWords) * sizeof(int32_t));
  }

  /// The products of a panel of `kWide` vectors of points with `tiles` tiles from `first` on, in
  /// rows of a centroid.
  template <int64_t kWide>
  static HWY_INLINE void multiply(const void *codes, int64_t first, int64_t tiles,
                                  const uint32_t *panel, int64_t words, int32_t *sums) {
    const TileSteps steps = tile_steps(words);
    constexpr int64_t kRow = kWide * kLanes * static_cast<int64_t>(sizeof(int32_t));
    constexpr int64_t kTileBytes = kTile * static_cast<int64_t>(sizeof(int32_t));
    const int64_t block = steps.count * kTileBytes;
    tile_products()->bytes[kWide - 1]({.a = static_cast<const char *>(codes) + first * block,
                                       .a_row = 4 * kTileWords,
                                       .a_step = kTileBytes,
                                       .a_block = block,
                                       .b = panel,
                                       .b_row = kRow,
                                       .b_step = steps.words * kRow,
                                       .c = sums,
                                       .c_row = kRow,
                                       .blocks = tiles,
                                       .steps = steps.count,
                                       .add = false});
  }

  /// Tiles for rows of d codes.
  struct Scope {
    Tiles tiles;
    explicit Scope(int64_t d) : tiles(tile_steps(ceil_of(d, 4)).words) {}
  };
};

/// For Int8Scores.
struct TileGroups : TileRows {
  static constexpr int32_t kOffset = 0;
  static constexpr int64_t kAtOnce = 2;  // tiles; their products stay in the nearest cache
  static constexpr uint64_t kSums = static_cast<uint64_t>(kAtOnce * kTileHeight * kPanel);

  /// take(g, sums) for the first groups.
  template <class Take>
  static HWY_INLINE void each_group(const int32_t *codes, const int32_t *, const uint32_t *panel,
                                    int32_t *HWY_RESTRICT sums, int64_t words, int64_t group_count,
                                    const Take &take) {
    const int64_t tiles = ceil_of(group_count, kHalves);
    for (int64_t t = 0; t < tiles; t += kAtOnce) {
      multiply<kVectors>(codes, t, min_of(kAtOnce, tiles - t), panel, words, sums);
      const int64_t end = min_of(group_count, (t + kAtOnce) * kHalves);
      const int32_t *from = sums;
      for (int64_t g = t * kHalves; g < end; ++g, from += kGroup * kPanel) {
        GroupSums group;
#pragma GCC unroll 8
        for (int64_t r = 0; r < kGroup; ++r)
#pragma GCC unroll 3
          for (int64_t v = 0; v < kVectors; ++v)
            group[r][v] = hn::Load(Ints(), from + r * kPanel + v * kLanes);
        take(g, group);
      }
    }
  }
};

/// For Int8Method.
struct ByteTiles : TileRows {
  using Code = int8_t;
  static constexpr int64_t kCodes = 4;
  static constexpr uint32_t kFlip = 0;
  static constexpr int32_t kOffset = 0;
  static constexpr int64_t kAtOnce = 2;

  template <class Take>
  static HWY_INLINE void each_sum(const uint32_t *panel, int64_t words, int64_t k,
                                  const uint32_t *codes, const int32_t *, const Take &take) {
    alignas(64) int32_t sums[kAtOnce * kTileHeight * kCodePanel];
    const int64_t tiles = ceil_of(k, kTileHeight);
    for (int64_t t = 0; t < tiles; t += kAtOnce) {
      multiply<kCodePanel / kLanes>(codes, t, min_of(kAtOnce, tiles - t), panel, words, sums);
      const int64_t first = t * kTileHeight, end = min_of(k, first + kAtOnce * kTileHeight);
      const int32_t *from = sums;
      for (int64_t j = first; j < end; ++j, from += kCodePanel)
        take(j, hn::Load(Ints(), from), hn::Load(Ints(), from + kLanes));
    }
  }
};

}  // namespace
}  // namespace SY_ISA
}  // namespace switchyard::cpu
