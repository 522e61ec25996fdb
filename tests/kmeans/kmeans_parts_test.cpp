// SPDX-License-Identifier: Apache-2.0
// The pieces of the loop that need no backend.
#include <gtest/gtest.h>
#include <switchyard/ops/kmeans_exact.h>

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <random>
#include <set>

#include "../../plugins/cpu/kernels/kmeans_bound.hpp"
#include "kmeans/update.hpp"

namespace switchyard::kmeans {
namespace {

TEST(Philox, KnownAnswers) {
  using Block = std::array<std::uint32_t, 4>;
  const auto philox = [](Block counter, std::uint32_t key0, std::uint32_t key1) {
    sy_philox4x32(counter.data(), key0, key1);
    return counter;
  };
  EXPECT_EQ(philox({0, 0, 0, 0}, 0, 0), (Block{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  constexpr std::uint32_t ones = 0xffffffff;
  EXPECT_EQ(philox({ones, ones, ones, ones}, ones, ones),
            (Block{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, 0xa4093822, 0x299f31d0),
            (Block{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Draws, StayBelowAndReachEveryValue) {
  sy_kmeans_draws draws{7, 0, 3, 1, 0};
  std::set<std::uint64_t> seen;
  for (int i = 0; i < 500; ++i) {
    const auto v = sy_kmeans_below(&draws, 10);
    ASSERT_LT(v, 10u);
    seen.insert(v);
  }
  EXPECT_EQ(seen.size(), 10u);
  EXPECT_EQ(sy_kmeans_below(&draws, 1), 0u);
}

TEST(Draws, DependOnEveryPartOfTheirPlace) {
  const auto draw = [](std::uint64_t seed, std::uint32_t run, std::uint32_t step,
                       std::uint32_t trial) {
    sy_kmeans_draws draws{seed, run, step, trial, 0};
    return sy_kmeans_next(&draws);
  };
  const std::uint64_t first = draw(1, 2, 3, 4);
  EXPECT_EQ(draw(1, 2, 3, 4), first);
  EXPECT_NE(draw(2, 2, 3, 4), first);
  EXPECT_NE(draw(1ull << 40, 2, 3, 4), draw(0, 2, 3, 4));
  EXPECT_NE(draw(1, 0, 3, 4), first);
  EXPECT_NE(draw(1, 2, 0, 4), first);
  EXPECT_NE(draw(1, 2, 3, 0), first);
}

TEST(FixedPoint, IsTheLargestShiftThatCannotOverflow) {
  const auto fits = [](double largest, std::int64_t n, int s) {
    const long double v = std::ldexp(static_cast<long double>(largest), s);
    return v <= 0x1p50L && v * static_cast<long double>(n) < 0x1p62L;
  };
  for (double largest : {1.0, 0.75, 1.5, 3.0, 1e-45, 1e-30, static_cast<double>(FLT_MAX), 0x1p50,
                         0x1.fffffep3, 1.0 / 3})
    for (std::int64_t n : {1ll, 2ll, 4095ll, 4096ll, 4097ll, 1'000'000ll, 1ll << 40}) {
      const int s = sy_kmeans_shift(largest, n);
      EXPECT_TRUE(fits(largest, n, s)) << largest << " " << n;
      EXPECT_FALSE(fits(largest, n, s + 1)) << largest << " " << n;
    }
  EXPECT_EQ(sy_kmeans_shift(0, 10), 0);
  EXPECT_EQ(sy_kmeans_shift(1.0, 1), 50);
  EXPECT_EQ(sy_kmeans_shift(1.0, 4096), 49);  // n M 2^50 would be 2^62
}

TEST(FloorLn, MatchesTheLogarithm) {
  for (std::int64_t k : {1, 2, 3, 7, 8, 20, 21, 54, 55, 148, 149, 1024, 2980, 2981, 1'000'000})
    EXPECT_EQ(sy_kmeans_floor_ln(k), static_cast<int>(std::floor(std::log(static_cast<double>(k)))))
        << k;
}

/// Rows and centroids that make the bound work: close scores, large norms, tiny values.
struct Adversary {
  const char *name;
  float (*x)(std::mt19937 &);
  float (*c)(std::mt19937 &);
};

float uniform(std::mt19937 &g) { return static_cast<float>(g() >> 8) * 0x1p-24f; }

constexpr Adversary kAdversaries[] = {
    {"uniform", uniform, uniform},
    {"far from the origin", [](std::mt19937 &g) { return 1e4f + uniform(g); },
     [](std::mt19937 &g) { return 1e4f + uniform(g); }},
    {"lattice", [](std::mt19937 &g) { return static_cast<float>(g() % 5); },
     [](std::mt19937 &g) { return 0.5f * static_cast<float>(g() % 9); }},
    {"nested norms", uniform,
     [](std::mt19937 &g) { return std::ldexp(uniform(g), static_cast<int>(g() % 30)); }},
    {"subnormal", [](std::mt19937 &g) { return uniform(g) * 0x1p-70f * 0x1p-70f; },
     [](std::mt19937 &g) { return uniform(g) * 0x1p-70f * 0x1p-70f; }},
    {"near the squares' underflow", [](std::mt19937 &g) { return uniform(g) * 0x1p-70f; },
     [](std::mt19937 &g) { return uniform(g) * 0x1p-70f; }},
    {"tight cluster", [](std::mt19937 &g) { return 1.0f + uniform(g) * 0x1p-18f; },
     [](std::mt19937 &g) { return 1.0f + uniform(g) * 0x1p-18f; }},
};

struct Excluded {
  std::int64_t minimisers = 0;  ///< centroids at least as near as the best that the bound ruled out
  double survivors = 0;         ///< mean per row
};

/// Scores as a kernel computes them, in the plainest order; `shifted` uses the centroids' mean.
Excluded count_excluded(const Adversary &a, std::int64_t d, std::int64_t k, bool shifted) {
  std::mt19937 g(static_cast<unsigned>(d * 1000 + k));
  constexpr std::int64_t kRows = 60;
  std::vector<float> x(static_cast<std::size_t>(kRows * d)), c(static_cast<std::size_t>(k * d)),
      mu(static_cast<std::size_t>(d), 0.0f), half(static_cast<std::size_t>(k));
  for (float &v : x) v = a.x(g);
  for (float &v : c) v = a.c(g);
  if (shifted)
    for (std::size_t m = 0; m < mu.size(); ++m) {
      double sum = 0;
      for (std::int64_t j = 0; j < k; ++j)
        sum += static_cast<double>(c[static_cast<std::size_t>(j * d) + m]);
      mu[m] = static_cast<float>(sum / static_cast<double>(k));
    }
  double largest = 0;
  for (std::int64_t j = 0; j < k; ++j) {
    double square = 0;
    for (std::int64_t m = 0; m < d; ++m) {
      const double t = static_cast<double>(c[static_cast<std::size_t>(j * d + m)]) -
                       static_cast<double>(mu[static_cast<std::size_t>(m)]);
      square += t * t;
    }
    half[static_cast<std::size_t>(j)] = static_cast<float>(0.5 * square);
    largest = std::max(largest, square);
  }
  const auto bound = cpu::kmeans_bound(d, std::sqrt(largest) * (1 + 0x1p-28), d + 1);
  EXPECT_TRUE(bound.usable);
  Excluded result;
  for (std::int64_t i = 0; i < kRows; ++i) {
    const float *row = x.data() + i * d;
    float norm = 0;
    std::vector<float> exact, score;
    for (std::int64_t m = 0; m < d; ++m) {
      const float t = row[m] - mu[static_cast<std::size_t>(m)];
      norm = std::fma(t, t, norm);
    }
    if (d > 32) norm = distance(row, mu.data(), d);  // shorter chains, as the bound asks for
    for (std::int64_t j = 0; j < k; ++j) {
      const float *centre = c.data() + j * d;
      exact.push_back(distance(row, centre, d));
      float s = half[static_cast<std::size_t>(j)];
      for (std::int64_t m = 0; m < d; ++m) {
        const float origin = mu[static_cast<std::size_t>(m)];
        s = std::fma(-(row[m] - origin), centre[m] - origin, s);
      }
      score.push_back(s);
    }
    const float best = *std::ranges::min_element(exact);
    const float near = std::sqrt(norm + bound.tiny) * bound.eg + bound.eh;
    const float limit = (best * bound.a + near) - norm * bound.b;
    for (std::size_t j = 0; j < exact.size(); ++j) {
      if (exact[j] <= best && !(score[j] <= limit)) ++result.minimisers;
      if (score[j] <= limit) result.survivors += 1.0 / kRows;
    }
  }
  return result;
}

TEST(Bound, NeverRulesOutAMinimiser) {
  for (const auto &a : kAdversaries)
    for (std::int64_t d : {1, 2, 3, 8, 16, 33, 128, 513})
      for (bool shifted : {true, false})
        EXPECT_EQ(count_excluded(a, d, 200, shifted).minimisers, 0) << a.name << ", d = " << d;
}

TEST(Bound, RulesOutNearlyEverythingElse) {
  // Uniform data in general position: hardly more than the winner survives.
  for (std::int64_t d : {8, 16, 128})
    EXPECT_LT(count_excluded(kAdversaries[0], d, 200, true).survivors, 1.1) << d;
  // Far from the origin the shifted frame keeps the bound sharp; without it nothing is ruled out.
  EXPECT_LT(count_excluded(kAdversaries[1], 16, 200, true).survivors, 1.1);
  EXPECT_GT(count_excluded(kAdversaries[1], 16, 200, false).survivors, 100);
}

TEST(Bound, RefusesWhatItCannotPromise) {
  EXPECT_FALSE(cpu::kmeans_bound(8, 0x1p61, 9).usable);
  EXPECT_FALSE(cpu::kmeans_bound((1 << 20) + 1, 1.0, 9).usable);
  EXPECT_FALSE(cpu::kmeans_bound(8, std::nan(""), 9).usable);
}

/// Input around arrays for the relocation tests.
struct Tiny {
  std::vector<float> x;
  Input in;
  std::vector<std::int32_t> labels;
  std::vector<float> distances;
  std::vector<std::int64_t> sums, counts;

  Tiny(std::vector<float> values, std::vector<std::int32_t> l, std::vector<float> dist,
       std::size_t k)
      : x(std::move(values)),
        labels(std::move(l)),
        distances(std::move(dist)),
        sums(k, 0),
        counts(k, 0) {
    in.x = TensorView(x.data(), {static_cast<std::int64_t>(x.size()), 1});
    in.shifts = *Tensor::zeros(dtypes::i32, std::array{std::int64_t{1}});
    for (std::size_t i = 0; i < x.size(); ++i) {
      sums[static_cast<std::size_t>(labels[i])] += static_cast<std::int64_t>(x[i]);
      ++counts[static_cast<std::size_t>(labels[i])];
    }
  }
  StepArrays arrays() {
    return {labels.data(), distances.data(), sums.data(), counts.data(), nullptr};
  }
};

TEST(Relocation, TakesTheFarthestRowsInOrder) {
  // Clusters 1 and 3 are empty; rows 4 (distance 9) and 2 (distance 4, before row 3 with 4) move.
  Tiny t({1, 2, 3, 5, 7, 100}, {0, 0, 0, 0, 0, 2}, {1, 0, 4, 4, 9, 50}, 4);
  EXPECT_EQ(relocate_empty(t.in, 4, t.arrays()), 2);
  EXPECT_EQ(t.labels, (std::vector<std::int32_t>{0, 0, 3, 0, 1, 2}));
  EXPECT_EQ(t.counts, (std::vector<std::int64_t>{3, 1, 1, 1}));
  EXPECT_EQ(t.sums, (std::vector<std::int64_t>{8, 7, 100, 3}));
}

TEST(Relocation, LeavesLastRowsAndRowsOnTheirCentroidAlone) {
  Tiny t({1, 1, 9}, {0, 0, 1}, {0, 0, 5}, 3);
  EXPECT_EQ(relocate_empty(t.in, 3, t.arrays()), 0);
  EXPECT_EQ(t.counts, (std::vector<std::int64_t>{2, 1, 0}));
}

}  // namespace
}  // namespace switchyard::kmeans
