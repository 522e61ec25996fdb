// SPDX-License-Identifier: Apache-2.0
// Whole fits: the same bits from every backend and thread count, and what the options promise.
#include "kmeans/fit.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <set>

#include "io/cast.hpp"
#include "plugin_runner.hpp"

namespace switchyard::testing {
namespace {

using Values = std::vector<float>;

Values mixture(std::int64_t n, std::int64_t d, std::int64_t k, unsigned seed, float offset = 0) {
  std::mt19937 g(seed);
  const auto normal = [&g] {
    float sum = -6;
    for (int i = 0; i < 12; ++i) sum += static_cast<float>(g() >> 8) * 0x1p-24f;
    return sum;
  };
  Values centres(static_cast<std::size_t>(k * d)), x(static_cast<std::size_t>(n * d));
  for (float &v : centres) v = normal();
  for (std::int64_t i = 0; i < n; ++i) {
    const std::int64_t j = g() % static_cast<std::uint64_t>(k);
    for (std::int64_t m = 0; m < d; ++m)
      x[static_cast<std::size_t>(i * d + m)] =
          centres[static_cast<std::size_t>(j * d + m)] + 0.7f * normal() + offset;
  }
  return x;
}

TensorView rows(const Values &v, std::int64_t d) {
  return {v.data(), {static_cast<std::int64_t>(v.size()) / d, d}};
}

template <class T>
std::vector<T> to_vector(const Tensor &t) {
  return {t.data<T>(), t.data<T>() + t.elements()};
}

void expect_same(const KMeansResult &a, const KMeansResult &b, const std::string &who) {
  EXPECT_EQ(to_vector<std::int32_t>(a.labels), to_vector<std::int32_t>(b.labels)) << who;
  EXPECT_EQ(to_vector<std::int64_t>(a.counts), to_vector<std::int64_t>(b.counts)) << who;
  EXPECT_EQ(std::memcmp(a.centroids.data(), b.centroids.data(), a.centroids.bytes()), 0) << who;
  EXPECT_EQ(a.inertia, b.inertia) << who;
  EXPECT_EQ(a.n_iter, b.n_iter) << who;
  EXPECT_EQ(a.converged, b.converged) << who;
}

KMeansResult must_fit(Runner &runner, const TensorView &x, const KMeansOptions &options) {
  auto result = kmeans::fit(runner, x, options);
  EXPECT_TRUE(result) << result.error().message;
  return result ? std::move(*result) : KMeansResult{};
}

/// Labels equal what assigning to the centroids gives; counts and inertia follow from them.
void expect_consistent(Runner &runner, const TensorView &x, const KMeansResult &fit) {
  auto labels = kmeans::assign(runner, x, fit.centroids, nullptr);
  ASSERT_TRUE(labels) << labels.error().message;
  EXPECT_EQ(to_vector<std::int32_t>(*labels), to_vector<std::int32_t>(fit.labels));
  std::vector<std::int64_t> counts(static_cast<std::size_t>(fit.counts.elements()), 0);
  for (std::int32_t l : to_vector<std::int32_t>(fit.labels)) ++counts[static_cast<std::size_t>(l)];
  EXPECT_EQ(counts, to_vector<std::int64_t>(fit.counts));
}

TEST(KMeansFit, SameBitsFromEveryBackendAndThreadCount) {
  struct Case {
    std::int64_t n, d, k;
    const char *init;
    float offset;
    bool weighted;
  };
  for (const Case &c :
       {Case{3000, 17, 23, "k-means++", 0, false}, Case{9001, 3, 12, "random", 1e4f, false},
        Case{700, 33, 40, "k-means++", 0, true}, Case{400, 1, 9, "random", 0, true}}) {
    const Values x = mixture(c.n, c.d, c.k, 11, c.offset);
    Values w(static_cast<std::size_t>(c.n));
    for (std::size_t i = 0; i < w.size(); ++i) w[i] = static_cast<float>(i % 7) * 0.3f;
    KMeansOptions options;
    options.k = c.k;
    options.init = c.init;
    options.n_init = 2;
    options.seed = 42;
    options.max_iter = 30;
    if (c.weighted) options.sample_weight = TensorView(w.data(), {c.n});
    auto reference = reference_runner();
    const auto want = must_fit(*reference, rows(x, c.d), options);
    expect_consistent(*reference, rows(x, c.d), want);
    for (const auto &id : fast_backends())
      for (std::uint32_t threads : {1u, 2u, 3u, 7u})
        for (bool states : {true, false}) {
          auto runner = PluginRunner::load(id, threads, states);
          expect_same(must_fit(*runner, rows(x, c.d), options), want,
                      id + ", " + std::to_string(threads) + " threads");
        }
  }
}

TEST(KMeansFit, SeedsDifferAndRepeat) {
  const Values x = mixture(500, 4, 8, 3);
  auto runner = reference_runner();
  KMeansOptions options;
  options.max_iter = 1;
  options.init = "random";
  options.seed = 1;
  const auto a = must_fit(*runner, rows(x, 4), options), b = must_fit(*runner, rows(x, 4), options);
  expect_same(a, b, "same seed");
  options.seed = 2;
  const auto c = must_fit(*runner, rows(x, 4), options);
  EXPECT_NE(std::memcmp(a.centroids.data(), c.centroids.data(), a.centroids.bytes()), 0);
}

TEST(KMeansFit, PlusPlusFindsSeparatedClusters) {
  // Ten far clusters: greedy k-means++ hits each of them, so one update ends at the optimum.
  Values x;
  for (int i = 0; i < 300; ++i) {
    x.push_back(static_cast<float>(i % 10) * 100.0f + static_cast<float>(i) * 0.001f);
    x.push_back(static_cast<float>(i % 10) * -50.0f);
  }
  auto runner = reference_runner();
  for (std::uint64_t seed = 0; seed < 5; ++seed) {
    KMeansOptions options;
    options.k = 10;
    options.seed = seed;
    const auto fit = must_fit(*runner, rows(x, 2), options);
    EXPECT_EQ(to_vector<std::int64_t>(fit.counts), std::vector<std::int64_t>(10, 30));
    EXPECT_TRUE(fit.converged);
  }
}

TEST(KMeansFit, OneClusterPerRow) {
  const Values x = mixture(37, 5, 4, 8);
  auto runner = reference_runner();
  for (const char *init : {"k-means++", "random"}) {
    KMeansOptions options;
    options.k = 37;
    options.init = init;
    const auto fit = must_fit(*runner, rows(x, 5), options);
    EXPECT_EQ(fit.inertia, 0) << init;
    EXPECT_EQ(to_vector<std::int64_t>(fit.counts), std::vector<std::int64_t>(37, 1)) << init;
    EXPECT_EQ(fit.empty_clusters, 0) << init;
  }
}

TEST(KMeansFit, AllRowsEqualKeepsOldCentresAndReportsThem) {
  const Values x(60, 2.5f);
  auto runner = reference_runner();
  for (const char *init : {"k-means++", "random"}) {
    KMeansOptions options;
    options.k = 4;
    options.init = init;
    const auto fit = must_fit(*runner, rows(x, 3), options);
    EXPECT_EQ(to_vector<std::int64_t>(fit.counts), (std::vector<std::int64_t>{20, 0, 0, 0}));
    EXPECT_EQ(fit.empty_clusters, 3);
    EXPECT_EQ(fit.inertia, 0);
    EXPECT_TRUE(fit.converged);
    EXPECT_EQ(to_vector<float>(fit.centroids), Values(12, 2.5f));
  }
}

TEST(KMeansFit, EmptyClustersTakeTheFarthestRows) {
  const Values x{0, 1, 2, 10, 11, 50};
  const Values init{0, 1000, 2000};  // both far centres start empty
  auto runner = reference_runner();
  KMeansOptions options;
  options.k = 3;
  options.init = "given";
  options.init_centroids = TensorView(init.data(), {3, 1});
  options.max_iter = 1;
  const auto once = must_fit(*runner, rows(x, 1), options);
  EXPECT_EQ(to_vector<float>(once.centroids), (Values{3.25f, 50, 11}));
  EXPECT_FALSE(once.converged);
  options.max_iter = 20;
  const auto fit = must_fit(*runner, rows(x, 1), options);
  EXPECT_EQ(to_vector<float>(fit.centroids), (Values{1, 50, 10.5f}));
  EXPECT_TRUE(fit.converged);
  EXPECT_EQ(fit.empty_clusters, 0);
}

TEST(KMeansFit, WeightTwoIsARowTwice) {
  const Values x = mixture(400, 6, 5, 21);
  Values weights, doubled;
  for (std::size_t i = 0; i < 400; ++i) {
    weights.push_back(i % 3 == 0 ? 2.0f : 1.0f);
    for (int copies = i % 3 == 0 ? 2 : 1; copies > 0; --copies)
      doubled.insert(doubled.end(), x.begin() + static_cast<std::ptrdiff_t>(6 * i),
                     x.begin() + static_cast<std::ptrdiff_t>(6 * i + 6));
  }
  auto runner = reference_runner();
  KMeansOptions options;
  options.k = 5;
  options.init = "given";
  options.init_centroids = TensorView(x.data(), {5, 6});
  options.tol = 0;
  const auto twice = must_fit(*runner, rows(doubled, 6), options);
  options.sample_weight = TensorView(weights.data(), {400});
  const auto weighted = must_fit(*runner, rows(x, 6), options);
  const auto a = to_vector<float>(weighted.centroids), b = to_vector<float>(twice.centroids);
  for (std::size_t i = 0; i < a.size(); ++i)
    EXPECT_LE(std::abs(a[i] - b[i]), std::abs(std::nextafter(b[i], 1e9f) - b[i])) << i;
  EXPECT_NEAR(weighted.inertia, twice.inertia, 1e-9 * twice.inertia);
}

TEST(KMeansFit, PermutedRowsGiveTheSameCentroids) {
  const Values x = mixture(1000, 7, 9, 5);
  Values y(x.size());
  for (std::size_t i = 0; i < 1000; ++i)
    std::copy_n(x.begin() + static_cast<std::ptrdiff_t>(7 * ((i * 389) % 1000)), 7,
                y.begin() + static_cast<std::ptrdiff_t>(7 * i));
  auto runner = reference_runner();
  KMeansOptions options;
  options.k = 9;
  options.init = "given";
  options.init_centroids = TensorView(x.data(), {9, 7});
  options.tol = 0;
  const auto a = must_fit(*runner, rows(x, 7), options), b = must_fit(*runner, rows(y, 7), options);
  EXPECT_EQ(to_vector<float>(a.centroids), to_vector<float>(b.centroids));
  EXPECT_EQ(a.n_iter, b.n_iter);
}

TEST(KMeansFit, StopsByToleranceLabelsOrCount) {
  const Values x = mixture(2000, 3, 30, 9);
  auto runner = reference_runner();
  KMeansOptions options;
  options.k = 30;
  options.init = "random";
  options.tol = 0;
  const auto strict = must_fit(*runner, rows(x, 3), options);
  EXPECT_TRUE(strict.converged);
  options.tol = 1e-2;
  const auto loose = must_fit(*runner, rows(x, 3), options);
  EXPECT_TRUE(loose.converged);
  EXPECT_LT(loose.n_iter, strict.n_iter);
  expect_consistent(*runner, rows(x, 3), loose);
  options.max_iter = 2;
  options.tol = 0;
  const auto cut = must_fit(*runner, rows(x, 3), options);
  EXPECT_FALSE(cut.converged);
  EXPECT_EQ(cut.n_iter, 2);
  expect_consistent(*runner, rows(x, 3), cut);
}

TEST(KMeansFit, BestOfSeveralRuns) {
  const Values x = mixture(300, 2, 12, 17);
  auto runner = reference_runner();
  KMeansOptions options;
  options.k = 12;
  options.init = "random";
  double previous = INFINITY;
  for (int runs : {1, 3, 8}) {
    options.n_init = runs;
    const auto fit = must_fit(*runner, rows(x, 2), options);
    EXPECT_LE(fit.inertia, previous);
    previous = fit.inertia;
    expect_consistent(*runner, rows(x, 2), fit);
  }
}

TEST(KMeansFit, ReadsHalfTypesAndAnyStrides) {
  const std::int64_t n = 200, d = 6;
  Values x = mixture(n, d, 4, 2);
  for (float &v : x) v = bf16_to_f32(f32_to_bf16(v));
  auto runner = reference_runner();
  KMeansOptions options;
  options.k = 4;
  const auto want = must_fit(*runner, rows(x, d), options);
  auto half = cast(rows(x, d), dtypes::bf16);
  ASSERT_TRUE(half);
  expect_same(must_fit(*runner, *half, options), want, "bf16");
  Values transposed(x.size()), padded(static_cast<std::size_t>(n * 9), NAN);
  for (std::int64_t i = 0; i < n; ++i)
    for (std::int64_t m = 0; m < d; ++m) {
      const float v = x[static_cast<std::size_t>(i * d + m)];
      transposed[static_cast<std::size_t>(m * n + i)] = v;
      padded[static_cast<std::size_t>(i * 9 + m)] = v;
    }
  const std::array shape{n, d};
  expect_same(
      must_fit(*runner,
               TensorView(transposed.data(), dtypes::f32, shape, std::array<std::int64_t, 2>{1, n}),
               options),
      want, "transposed");
  expect_same(
      must_fit(*runner,
               TensorView(padded.data(), dtypes::f32, shape, std::array<std::int64_t, 2>{9, 1}),
               options),
      want, "padded");
  Values reversed = x;
  for (std::int64_t i = 0; i < n; ++i)
    std::copy_n(x.begin() + (n - 1 - i) * d, d, reversed.begin() + i * d);
  expect_same(must_fit(*runner,
                       TensorView(reversed.data() + (n - 1) * d, dtypes::f32, shape,
                                  std::array<std::int64_t, 2>{-d, 1}),
                       options),
              want, "negative stride");
}

TEST(KMeansFit, CancelReturnsTheLastCompletedIteration) {
  const Values x = mixture(30000, 16, 50, 4);
  auto runner = PluginRunner::load(fast_backends().front(), 2);
  KMeansOptions options;
  options.k = 50;
  options.init = "random";
  options.tol = 0;
  double last = 0;
  options.progress = [&](double done) {
    EXPECT_GE(done, last);
    EXPECT_LE(done, 1);
    last = done;
    return done < 0.02;  // of 300 iterations
  };
  const auto fit = must_fit(*runner, rows(x, 16), options);
  EXPECT_TRUE(fit.cancelled);
  EXPECT_FALSE(fit.converged);
  EXPECT_GE(fit.n_iter, 1);
  EXPECT_LE(fit.n_iter, 12);
  expect_consistent(*runner, rows(x, 16), fit);

  for (const char *init : {"k-means++", "given"}) {
    options.init = init;
    options.init_centroids = TensorView(x.data(), {50, 16});
    options.progress = [](double) { return false; };
    auto nothing = kmeans::fit(*runner, rows(x, 16), options);
    ASSERT_FALSE(nothing) << init;
    EXPECT_EQ(nothing.error().code, ErrorCode::cancelled) << init;
  }
}

TEST(KMeansFit, RefusalsSayWhatIsWrong) {
  Values x = mixture(20, 3, 2, 1);
  auto runner = reference_runner();
  const auto refused = [&](const TensorView &view, auto &&change, ErrorCode code,
                           std::string_view word, std::int64_t index = -1) {
    KMeansOptions options;
    change(options);
    auto fit = kmeans::fit(*runner, view, options);
    ASSERT_FALSE(fit) << word;
    EXPECT_EQ(fit.error().code, code) << fit.error().message;
    EXPECT_NE(fit.error().message.find(word), std::string::npos) << fit.error().message;
    EXPECT_EQ(fit.error().index, index) << fit.error().message;
  };
  using O = KMeansOptions;
  const auto view = rows(x, 3);
  const auto invalid = ErrorCode::invalid_argument;
  refused(
      view, [](O &o) { o.k = 21; }, invalid, "k is 21");
  refused(
      view, [](O &o) { o.k = 0; }, invalid, "k is 0");
  refused(
      view, [](O &o) { o.n_init = 0; }, invalid, "n_init");
  refused(
      view, [](O &o) { o.max_iter = 0; }, invalid, "max_iter");
  refused(
      view, [](O &o) { o.tol = -1; }, invalid, "tol");
  refused(
      view, [](O &o) { o.tol = NAN; }, invalid, "tol");
  refused(
      view, [](O &o) { o.init = "kmeans++"; }, invalid, "k-means++");
  refused(
      view, [](O &o) { o.batch_size = -1; }, ErrorCode::invalid_argument, "batch_size");
  refused(
      view,
      [](O &o) {
        o.batch_size = 4;
        o.n_init = 2;
      },
      ErrorCode::unsupported, "mini-batch");
  refused(
      view, [](O &o) { o.init = "given"; }, invalid, "missing");
  refused(
      view, [&](O &o) { o.init = "given", o.init_centroids = rows(x, 2); }, ErrorCode::shape,
      "[k, 3]");
  refused(
      view, [&](O &o) { o.init = "given", o.init_centroids = rows(x, 3); }, ErrorCode::shape,
      "20 initial centroids");
  refused(
      TensorView(x.data(), {60}), [](O &) {}, ErrorCode::shape, "[60]");
  refused(
      TensorView(x.data(), {0, 3}), [](O &) {}, ErrorCode::shape, "[0, 3]");
  const std::vector<double> wide(60, 0.0);
  refused(
      TensorView(static_cast<const void *>(wide.data()), dtypes::f64,
                 std::array<std::int64_t, 2>{20, 3}),
      [](O &) {}, ErrorCode::dtype, "f64");
  const Values short_weights(19, 1.0f), zero(20, 0.0f);
  Values negative(20, 1.0f);
  negative[7] = -1;
  refused(
      view, [&](O &o) { o.sample_weight = TensorView(short_weights.data(), {19}); },
      ErrorCode::shape, "[20]");
  refused(
      view, [&](O &o) { o.sample_weight = TensorView(zero.data(), {20}); }, invalid, "zero");
  refused(
      view, [&](O &o) { o.sample_weight = TensorView(negative.data(), {20}); }, invalid, "-1", 7);
  x[31] = NAN;
  x[40] = INFINITY;
  refused(
      rows(x, 3), [](O &) {}, ErrorCode::nonfinite, "x[10, 1]", 31);
}

TEST(KMeansFit, SurvivesValuesWhoseDistancesOverflow) {
  Values x = mixture(300, 5, 4, 6);
  for (float &v : x) v *= 1e36f;
  auto reference = reference_runner();
  KMeansOptions options;
  options.k = 4;
  options.max_iter = 5;
  const auto want = must_fit(*reference, rows(x, 5), options);
  for (float c : to_vector<float>(want.centroids)) EXPECT_TRUE(std::isfinite(c));
  for (const auto &id : fast_backends())
    expect_same(must_fit(*PluginRunner::load(id, 2), rows(x, 5), options), want, id);
}

TEST(KMeansFit, CountsBeyondTwentyFourBitsStayExact) {
  // One cluster of more than 2^24 rows: float counters would stop counting.
  const std::int64_t n = (1 << 24) + 1001;
  Values x(static_cast<std::size_t>(n), 1.0f);
  x[5] = 9.0f;
  auto runner = PluginRunner::load(fast_backends().front(), 2);
  const Values init{1, 9};
  KMeansOptions options;
  options.k = 2;
  options.init = "given";
  options.init_centroids = TensorView(init.data(), {2, 1});
  options.tol = 0;
  const auto fit = must_fit(*runner, rows(x, 1), options);
  EXPECT_EQ(to_vector<std::int64_t>(fit.counts), (std::vector<std::int64_t>{n - 1, 1}));
  EXPECT_EQ(to_vector<float>(fit.centroids), init);
  EXPECT_EQ(fit.inertia, 0);
}

}  // namespace
}  // namespace switchyard::testing
