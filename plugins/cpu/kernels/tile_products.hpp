// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Products of blocks of small integers and of bf16 pairs by AMX tiles: 16 rows of 64 bytes each.
/// One instruction multiplies 16 rows of a by 16 columns of b over up to 16 words of 32 bits, four
/// signed bytes or two bf16 in each (needs SY_ISA).

#include <stdint.h>

#include "../failure.hpp"
#include "../kernel.hpp"

namespace switchyard::cpu {
inline namespace SY_ISA {

inline constexpr int64_t kTileHeight = 16;  ///< rows of a block of results, and its columns
inline constexpr int64_t kTileWords = 16;   ///< most words of a step

/// c[i][j] (+)= sum over steps and words of a[i][word] * b[word][j]. Strides in bytes, all sizes in
/// whole tiles; b and c are 16, 32 or 48 columns wide, b's rows hold a word of each column.
struct TileProduct {
  const void *a;
  int64_t a_row, a_step, a_block;  ///< from a row, a step, a block of 16 rows to the next
  const void *b;
  int64_t b_row, b_step;
  void *c;  ///< int32 or f32
  int64_t c_row;
  int64_t blocks, steps;
  bool add;
};

struct TileProducts {
  /// Sets up this thread's tiles for steps of `words` words, until release. Blocking operations of
  /// the system are slower in between.
  void (*configure)(int64_t words);
  void (*release)();
  using Multiply = void (*)(const TileProduct &product);
  Multiply bytes[3];  ///< int32 from signed bytes, exact; by b's columns / 16 - 1
  Multiply pairs[3];  ///< f32 from bf16 pairs; subnormal numbers are taken as zero
};

/// NULL in builds for instruction sets that have no such processors.
const TileProducts *tile_products() noexcept;

/// This thread's tiles, while it lives.
struct Tiles {
  [[gnu::always_inline]] explicit Tiles(int64_t words) { tile_products()->configure(words); }
  [[gnu::always_inline]] ~Tiles() { tile_products()->release(); }
  Tiles(const Tiles &) = delete;
  Tiles &operator=(const Tiles &) = delete;
};

/// Refuses where they are missing, or the permission to use them.
[[gnu::always_inline]] static inline int32_t needs_tiles(const Context &ctx, sy_error *reason) {
  if (tile_products() != nullptr && (ctx.features & kFeatureAmx) != 0) return SY_OK;
  return failure(reason, SY_E_HARDWARE,
                 "this processor, its operating system or the isa setting offers no AMX tiles");
}

/// How `words` words are cut into equal steps; what is past the end must be zero in a or b.
struct TileSteps {
  int64_t count, words;
  int64_t padded() const { return count * words; }
};

[[maybe_unused]] static inline TileSteps tile_steps(int64_t words) {
  const int64_t count = words <= kTileWords ? 1 : (words + kTileWords - 1) / kTileWords;
  return {count, words <= 0 ? 1 : (words + count - 1) / count};
}

}  // namespace SY_ISA
}  // namespace switchyard::cpu
