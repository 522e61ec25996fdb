// SPDX-License-Identifier: Apache-2.0
#pragma once
/// The operations of plugins/cpu/kernels/amx_tiles_intrinsics.hpp on any processor, as Intel's
/// manual defines them: what they compute, which bytes they touch, and what they refuse, which ends
/// the program here.

#include <immintrin.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

namespace switchyard::cpu {
inline namespace SY_ISA {
namespace {

struct alignas(64) TileConfig {
  uint8_t palette, start_row, reserved[14];
  uint16_t row_bytes[16];
  uint8_t rows[16];
};

struct EmulatedTile {
  alignas(64) uint8_t row[16][64];
};
thread_local TileConfig tile_config{};
thread_local EmulatedTile tiles[8];

inline void require_of_tiles(bool holds, const char *words) {
  if (holds) return;
  fprintf(stderr, "emulated tiles: %s\n", words);
  abort();
}

inline void configure_tiles(const TileConfig &config) {
  require_of_tiles(tile_config.palette == 0, "configured again before they were released");
  require_of_tiles(config.palette == 1 && config.start_row == 0, "unknown palette");
  for (int i = 0; i < 14; ++i) require_of_tiles(config.reserved[i] == 0, "reserved bytes are set");
  for (int i = 0; i < 16; ++i) {
    const bool used = config.rows[i] != 0 || config.row_bytes[i] != 0;
    require_of_tiles(!used || i < 8, "more than eight tiles");
    require_of_tiles(config.rows[i] <= 16 && config.row_bytes[i] <= 64, "a tile is too large");
    require_of_tiles((config.rows[i] == 0) == (config.row_bytes[i] == 0), "a tile has no area");
  }
  tile_config = config;
  memset(tiles, 0, sizeof(tiles));
}
inline void release_tiles() {
  require_of_tiles(tile_config.palette == 1, "released, but not in use");
  tile_config = TileConfig{};
}

inline void require_tile(int tile) {
  require_of_tiles(tile_config.palette == 1, "used before they were configured");
  require_of_tiles(tile_config.rows[tile] != 0, "a tile without a shape is used");
}

template <int kTile>
inline void zero_tile() {
  require_tile(kTile);
  memset(&tiles[kTile], 0, sizeof(EmulatedTile));
}
template <int kTile, int kOffset>
inline void load_tile(const void *from, int64_t stride) {
  require_tile(kTile);
  memset(&tiles[kTile], 0, sizeof(EmulatedTile));
  for (int r = 0; r < tile_config.rows[kTile]; ++r)
    memcpy(tiles[kTile].row[r], static_cast<const char *>(from) + kOffset + r * stride,
           tile_config.row_bytes[kTile]);
}
template <int kTile, int kOffset>
inline void store_tile(void *to, int64_t stride) {
  require_tile(kTile);
  for (int r = 0; r < tile_config.rows[kTile]; ++r)
    memcpy(static_cast<char *>(to) + kOffset + r * stride, tiles[kTile].row[r],
           tile_config.row_bytes[kTile]);
}

/// Words of a row of a.
template <int kC, int kA, int kB>
inline int shared_words() {
  static_assert(kC != kA && kC != kB && kA != kB, "the processor refuses equal tiles");
  require_tile(kC);
  require_tile(kA);
  require_tile(kB);
  const TileConfig &t = tile_config;
  require_of_tiles(t.rows[kC] == t.rows[kA] && t.row_bytes[kC] == t.row_bytes[kB] &&
                       t.row_bytes[kA] == 4 * t.rows[kB] && t.row_bytes[kB] % 4 == 0,
                   "shapes do not fit together");
  return t.rows[kB];
}

template <int kC, int kA, int kB>
inline void multiply_bytes() {
  const int words = shared_words<kC, kA, kB>(), columns = tile_config.row_bytes[kC] / 4;
  for (int m = 0; m < tile_config.rows[kC]; ++m) {
    uint32_t sum[16];  // unsigned: it wraps around
    memcpy(sum, tiles[kC].row[m], sizeof(sum));
    for (int k = 0; k < words; ++k) {
      int8_t a[4], b[64];
      memcpy(a, tiles[kA].row[m] + 4 * k, 4);
      memcpy(b, tiles[kB].row[k], 64);
      for (int n = 0; n < columns; ++n)
        for (int i = 0; i < 4; ++i) sum[n] += static_cast<uint32_t>(a[i] * b[4 * n + i]);
    }
    memcpy(tiles[kC].row[m], sum, sizeof(sum));
  }
}

/// A row of c. A function of its own: the compiler may move arithmetic past _mm_setcsr.
[[gnu::noinline]] inline void multiply_pair_row(const uint8_t *a, const EmulatedTile &b, int words,
                                                float *c, int columns) {
  using Words = uint32_t __attribute__((vector_size(64)));
  const auto early = [](Words v) { return reinterpret_cast<__m512>(v << 16); };
  const auto late = [](Words v) { return reinterpret_cast<__m512>(v & 0xFFFF0000u); };
  __m512 even = _mm512_setzero_ps(), odd = even;
  for (int k = 0; k < words; ++k) {
    uint32_t word;
    memcpy(&word, a + 4 * k, 4);
    Words row;
    memcpy(&row, b.row[k], sizeof(row));
    const Words same = Words{} + word;
    even = _mm512_fmadd_ps(early(same), early(row), even);
    odd = _mm512_fmadd_ps(late(same), late(row), odd);
  }
  const __m512 sum = _mm512_add_ps(_mm512_loadu_ps(c), _mm512_add_ps(even, odd));
  _mm512_mask_storeu_ps(c, static_cast<__mmask16>((1u << columns) - 1), sum);
}

/// The earlier and the later values of pairs are summed apart by fused multiply-adds, from zero and
/// word by word; then both sums are added, then that to c. Subnormal inputs and results are zero.
template <int kC, int kA, int kB>
inline void multiply_pairs() {
  const int words = shared_words<kC, kA, kB>();
  const unsigned saved = _mm_getcsr();
  _mm_setcsr(0x9FC0);  // to nearest even, exceptions masked, subnormals to zero on both sides
  for (int m = 0; m < tile_config.rows[kC]; ++m)
    multiply_pair_row(tiles[kA].row[m], tiles[kB], words,
                      reinterpret_cast<float *>(tiles[kC].row[m]), tile_config.row_bytes[kC] / 4);
  _mm_setcsr(saved);
}

}  // namespace
}  // namespace SY_ISA
}  // namespace switchyard::cpu
