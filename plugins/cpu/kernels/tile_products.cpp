// SPDX-License-Identifier: Apache-2.0
// Loops over tiles. A test builds this file with SWITCHYARD_EMULATE_TILES, for machines without
// AMX.
#include "tile_products.hpp"

#if defined(__AVX512BW__)
#if defined(SWITCHYARD_EMULATE_TILES)
#include <emulated_tiles.hpp>
#else
#include "amx_tiles_intrinsics.hpp"
#endif

namespace switchyard::cpu {
inline namespace SY_ISA {
namespace {

// Registers by what they hold: four blocks of results, up to three of b, one of a.
constexpr int kOfB = 4, kOfA = 7, kTiles = 8;

void configure(int64_t words) {
  TileConfig config{};
  config.palette = 1;
  for (int i = 0; i < kTiles; ++i) {
    config.row_bytes[i] = 64;
    config.rows[i] = kTileHeight;
  }
  for (int i = kOfB; i < kOfA; ++i) config.rows[i] = static_cast<uint8_t>(words);
  config.row_bytes[kOfA] = static_cast<uint16_t>(4 * words);
  configure_tiles(config);
}

void release() { release_tiles(); }

struct Bytes {
  template <int kC, int kB>
  [[gnu::always_inline]] static inline void multiply() {
    multiply_bytes<kC, kOfA, kB>();
  }
};
struct Pairs {
  template <int kC, int kB>
  [[gnu::always_inline]] static inline void multiply() {
    multiply_pairs<kC, kOfA, kB>();
  }
};

template <int kValue>
struct Number {
  static constexpr int value = kValue;
};
/// fn(Number<0>()), ..., fn(Number<kCount - 1>())
template <int kCount, class Fn>
[[gnu::always_inline]] inline void each(const Fn &fn) {
  if constexpr (kCount > 0) {
    each<kCount - 1>(fn);
    fn(Number<kCount - 1>());
  }
}

/// kHigh blocks of rows by all kWide blocks of columns.
template <class Kind, int kHigh, int kWide>
[[gnu::always_inline]] inline void multiply_blocks(const TileProduct &p, const char *a, char *c) {
  static_assert(kHigh * kWide <= kOfB && kOfB + kWide <= kOfA);
  const int64_t a_row = p.a_row, a_step = p.a_step, a_block = p.a_block, b_row = p.b_row,
                b_step = p.b_step, c_row = p.c_row;
  const auto each_result = [&](const auto &fn) {
    char *row = c;
    each<kHigh>([&](auto high) {
      each<kWide>([&](auto wide) {
        fn(Number<decltype(high)::value * kWide + decltype(wide)::value>(), wide, row);
      });
      row += kTileHeight * c_row;
    });
  };
  if (p.add)
    each_result([&](auto tile, auto wide, const char *row) {
      load_tile<decltype(tile)::value, 64 * decltype(wide)::value>(row, c_row);
    });
  else
    each_result([&](auto tile, auto, const char *) { zero_tile<decltype(tile)::value>(); });
  const auto *b = static_cast<const char *>(p.b);
  for (int64_t s = p.steps; s > 0; --s, a += a_step, b += b_step) {
    each<kWide>([&](auto wide) {
      load_tile<kOfB + decltype(wide)::value, 64 * decltype(wide)::value>(b, b_row);
    });
    const char *from = a;
    each<kHigh>([&](auto high) {
      load_tile<kOfA, 0>(from, a_row);
      from += a_block;
      each<kWide>([&](auto wide) {
        Kind::template multiply<decltype(high)::value * kWide + decltype(wide)::value,
                                kOfB + decltype(wide)::value>();
      });
    });
  }
  each_result([&](auto tile, auto wide, char *row) {
    store_tile<decltype(tile)::value, 64 * decltype(wide)::value>(row, c_row);
  });
}

/// As many blocks of rows at once as there are registers for results: chains of products wait for
/// one another.
template <class Kind, int kWide>
void multiply(const TileProduct &p) {
  constexpr int kHigh = kOfB / kWide;
  const auto *a = static_cast<const char *>(p.a);
  auto *c = static_cast<char *>(p.c);
  int64_t i = 0;
  for (; i + kHigh <= p.blocks; i += kHigh) {
    multiply_blocks<Kind, kHigh, kWide>(p, a, c);
    a += kHigh * p.a_block;
    c += kHigh * kTileHeight * p.c_row;
  }
  if constexpr (kHigh > 1)
    for (; i < p.blocks; ++i) {
      multiply_blocks<Kind, 1, kWide>(p, a, c);
      a += p.a_block;
      c += kTileHeight * p.c_row;
    }
}

constexpr TileProducts kProducts = {configure,
                                    release,
                                    {multiply<Bytes, 1>, multiply<Bytes, 2>, multiply<Bytes, 3>},
                                    {multiply<Pairs, 1>, multiply<Pairs, 2>, multiply<Pairs, 3>}};

}  // namespace
}  // namespace SY_ISA
}  // namespace switchyard::cpu
#endif

namespace switchyard::cpu {
inline namespace SY_ISA {

const TileProducts *tile_products() noexcept {
#if defined(__AVX512BW__)
  return &kProducts;
#else
  return nullptr;
#endif
}

}  // namespace SY_ISA
}  // namespace switchyard::cpu
