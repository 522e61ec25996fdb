// SPDX-License-Identifier: Apache-2.0
/// The loops over tiles against plain ones: every width, odd numbers of blocks, short and many
/// steps, operands of any stride.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <iostream>
#include <random>
#include <vector>

#define SY_ISA avx512
#include <kernels/tile_products.hpp>

namespace switchyard::cpu {
namespace {

struct Sizes {
  std::int64_t wide, blocks, steps, words;
  bool add;
};

std::vector<Sizes> all_sizes() {
  std::vector<Sizes> all;
  for (std::int64_t wide : {1, 2, 3})
    for (std::int64_t blocks : {1, 2, 3, 5, 8, 9})
      for (std::int64_t steps : {0, 1, 2, 5})
        for (std::int64_t words : {1, 3, 15, 16})
          for (bool add : {false, true}) all.push_back({wide, blocks, steps, words, add});
  return all;
}

/// Words of a: [16 blocks][steps * words + 3]; of b: [steps * words][16 wide + 5]; c likewise.
struct Operands {
  Sizes s;
  std::int64_t depth = s.steps * s.words, a_row = depth + 3, columns = 16 * s.wide,
               b_row = columns + 5, rows = 16 * s.blocks;
  std::vector<std::uint32_t> a = std::vector<std::uint32_t>(static_cast<std::size_t>(rows * a_row)),
                             b = std::vector<std::uint32_t>(
                                 static_cast<std::size_t>(depth * b_row + 1)),
                             c = std::vector<std::uint32_t>(static_cast<std::size_t>(rows * b_row));

  TileProduct product() {
    return {.a = a.data(),
            .a_row = 4 * a_row,
            .a_step = 4 * s.words,
            .a_block = 64 * a_row,
            .b = b.data(),
            .b_row = 4 * b_row,
            .b_step = 4 * b_row * s.words,
            .c = c.data(),
            .c_row = 4 * b_row,
            .blocks = s.blocks,
            .steps = s.steps,
            .add = s.add};
  }
  const std::uint32_t &in_a(std::int64_t i, std::int64_t w) const {
    return a[static_cast<std::size_t>(i * a_row + w)];
  }
  const std::uint32_t &in_b(std::int64_t w, std::int64_t j) const {
    return b[static_cast<std::size_t>(w * b_row + j)];
  }
  std::size_t at_c(std::int64_t i, std::int64_t j) const {
    return static_cast<std::size_t>(i * b_row + j);
  }
};

template <class Fn>
void on_all_sizes(const Fn &fn) {
  if (!__builtin_cpu_supports("avx512bw") || !__builtin_cpu_supports("avx512vl"))
    GTEST_SKIP() << "the emulation needs AVX-512";
  std::mt19937 random(7);
  int count = 0;
  for (const Sizes &s : all_sizes()) {
    Operands o{s};
    for (auto *v : {&o.a, &o.b, &o.c})
      for (std::uint32_t &word : *v) word = static_cast<std::uint32_t>(random());
    fn(o);
    ++count;
    ASSERT_FALSE(::testing::Test::HasFailure())
        << s.wide << " wide, " << s.blocks << " blocks, " << s.steps << " steps of " << s.words;
  }
  std::cout << count << " products\n";
}

/// What lies between the columns that were asked for must stay.
void expect_gaps_kept(const Operands &o, const std::vector<std::uint32_t> &before) {
  for (std::int64_t i = 0; i < o.rows; ++i)
    for (std::int64_t j = o.columns; j < o.b_row; ++j)
      EXPECT_EQ(o.c[o.at_c(i, j)], before[o.at_c(i, j)]);
}

TEST(TileProducts, OfBytesAreExact) {
  on_all_sizes([](Operands &o) {
    const auto before = o.c;
    {
      const Tiles tiles(o.s.words);
      tile_products()->bytes[o.s.wide - 1](o.product());
    }
    for (std::int64_t i = 0; i < o.rows; ++i)
      for (std::int64_t j = 0; j < o.columns; ++j) {
        std::int64_t sum =
            o.s.add ? static_cast<std::int32_t>(before[o.at_c(i, j)]) : std::int32_t{0};
        for (std::int64_t w = 0; w < o.depth; ++w)
          for (int shift = 0; shift < 32; shift += 8)
            sum += static_cast<std::int8_t>(o.in_a(i, w) >> shift) *
                   static_cast<std::int8_t>(o.in_b(w, j) >> shift);
        EXPECT_EQ(static_cast<std::int32_t>(o.c[o.at_c(i, j)]), static_cast<std::int32_t>(sum));
      }
    expect_gaps_kept(o, before);
  });
}

float value(std::uint32_t word, bool late) {
  return std::bit_cast<float>(late ? word & 0xFFFF0000u : word << 16);
}

TEST(TileProducts, OfPairsAreRoundedLittle) {
  on_all_sizes([](Operands &o) {
    const auto small = [](std::uint32_t word) {  // exponents of -8 .. 7, any sign and mantissa
      const auto one = [](std::uint32_t half) {
        return (half & 0x807Fu) | ((119 + (half >> 7) % 16) << 7);
      };
      return one(word & 0xFFFFu) | one(word >> 16) << 16;
    };
    for (auto *v : {&o.a, &o.b})
      for (std::uint32_t &word : *v) word = small(word);
    for (std::uint32_t &word : o.c) word = small(word) & 0xFFFF0000u;
    const auto before = o.c;
    {
      const Tiles tiles(o.s.words);
      tile_products()->pairs[o.s.wide - 1](o.product());
    }
    for (std::int64_t i = 0; i < o.rows; ++i)
      for (std::int64_t j = 0; j < o.columns; ++j) {
        double sum = o.s.add ? static_cast<double>(value(before[o.at_c(i, j)], true)) : 0.0;
        double size = sum < 0 ? -sum : sum;
        for (std::int64_t w = 0; w < o.depth; ++w)
          for (bool late : {false, true}) {
            const double p = static_cast<double>(value(o.in_a(i, w), late)) *
                             static_cast<double>(value(o.in_b(w, j), late));
            sum += p;
            size += p < 0 ? -p : p;
          }
        // A value goes through at most 16 sums of a step, its pair's, and one for each step.
        const double slack = size * static_cast<double>(o.s.words + 1 + o.s.steps) * 0x1p-24 * 1.01;
        EXPECT_NEAR(static_cast<double>(std::bit_cast<float>(o.c[o.at_c(i, j)])), sum, slack);
      }
    expect_gaps_kept(o, before);
  });
}

float flushed(float x) { return std::fpclassify(x) == FP_SUBNORMAL ? std::copysign(0.0f, x) : x; }

/// c[i, j] as the manual defines a chain of tdpbf16ps, one value at a time.
float by_the_manual(const Operands &o, float c, std::int64_t i, std::int64_t j) {
  for (std::int64_t s = 0; s < o.s.steps; ++s) {
    float sums[2] = {};
    for (std::int64_t w = s * o.s.words; w < (s + 1) * o.s.words; ++w)
      for (bool late : {false, true})
        sums[late] = flushed(std::fmaf(flushed(value(o.in_a(i, w), late)),
                                       flushed(value(o.in_b(w, j), late)), sums[late]));
    c = flushed(flushed(c) + flushed(sums[0] + sums[1]));
  }
  return c;
}

TEST(TileProducts, OfPairsFollowTheManual) {
  // Any bits but those of NaN, most of them so small that sums and products are subnormal.
  for (std::uint32_t exponents : {255u, 80u, 2u})
    on_all_sizes([&](Operands &o) {
      const auto tamed = [&](std::uint32_t half) {
        return (half & 0x807Fu) | ((half >> 7) % exponents) << 7;
      };
      for (auto *v : {&o.a, &o.b, &o.c})
        for (std::uint32_t &word : *v) word = tamed(word & 0xFFFFu) | tamed(word >> 16) << 16;
      const auto before = o.c;
      {
        const Tiles tiles(o.s.words);
        tile_products()->pairs[o.s.wide - 1](o.product());
      }
      for (std::int64_t i = 0; i < o.rows; ++i)
        for (std::int64_t j = 0; j < o.columns; ++j) {
          const float c = o.s.add ? std::bit_cast<float>(before[o.at_c(i, j)]) : 0.0f;
          const float want = by_the_manual(o, c, i, j),
                      got = std::bit_cast<float>(o.c[o.at_c(i, j)]);
          if (std::isnan(want) && std::isnan(got)) continue;  // infinity less infinity
          EXPECT_EQ(std::bit_cast<std::uint32_t>(got), std::bit_cast<std::uint32_t>(want));
        }
    });
}

TEST(TileSteps, CoverEveryWordInEqualSteps) {
  for (std::int64_t words = 1; words < 400; ++words) {
    const TileSteps steps = tile_steps(words);
    EXPECT_GE(steps.words, 1);
    EXPECT_LE(steps.words, kTileWords);
    EXPECT_GE(steps.padded(), words);
    EXPECT_LT(steps.padded() - words, steps.count);
    EXPECT_EQ(steps.count, (words + kTileWords - 1) / kTileWords);
  }
}

}  // namespace
}  // namespace switchyard::cpu
