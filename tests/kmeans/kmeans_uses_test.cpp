// SPDX-License-Identifier: Apache-2.0
// Whole fits over many generated problems, and what is built on them: the same bits everywhere.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "io/npy.hpp"
#include "kmeans/fit.hpp"
#include "kmeans/stream.hpp"
#include "kmeans/update.hpp"
#include "kmeans/uses.hpp"
#include "op/op_spec.hpp"
#include "ops/kmeans_problem.hpp"
#include "plugin_runner.hpp"

namespace switchyard::testing {
namespace {

Problem points(std::int64_t n, std::int64_t d, std::string_view data, std::uint64_t seed,
               bool weighted = false) {
  Shape shape;
  shape.set("n", n).set("d", d).set("k", std::min<std::int64_t>(n, 7));
  shape.set("data", std::string(data));
  if (weighted) shape.set("weighted", 1);
  auto problem = kmeans_assign_spec().make_problem(shape, seed);
  EXPECT_TRUE(problem);
  return std::move(*problem);
}

std::string bytes(const Tensor &t) {
  return t.present() ? std::string(t.data<char>(), t.bytes()) : std::string();
}

void expect_equal(const KMeansResult &got, const KMeansResult &want, const std::string &what) {
  EXPECT_EQ(bytes(got.labels), bytes(want.labels)) << what;
  EXPECT_EQ(bytes(got.centroids), bytes(want.centroids)) << what;
  EXPECT_EQ(bytes(got.counts), bytes(want.counts)) << what;
  EXPECT_EQ(bytes(got.closest_rows), bytes(want.closest_rows)) << what;
  EXPECT_EQ(std::memcmp(&got.inertia, &want.inertia, sizeof got.inertia), 0)
      << what << ": " << got.inertia << " " << want.inertia;
  EXPECT_EQ(got.n_iter, want.n_iter) << what;
  EXPECT_EQ(got.converged, want.converged) << what;
}

/// Fits one generated problem on every kernel; `p` chooses sizes and options. Returns how many fits
/// were compared with the reference's.
int compare_fits(PluginRunner &reference, std::string_view data, int p, bool int8) {
  constexpr std::uint32_t kThreads[] = {1, 2, 3, 7};
  const char *inits[] = {"k-means++", "random", "k-means||"};
  const std::int64_t n = 60 + 97 * p % 700, d = 1 + (p * p + p) % 37;
  auto problem = points(n, d, data, static_cast<std::uint64_t>(p), p % 4 == 1);
  KMeansOptions o;
  o.k = 1 + (p * 5) % 29;
  o.init = inits[p % 3];
  o.seed = static_cast<std::uint64_t>(p);
  o.max_iter = 12;
  o.tol = p % 2 == 0 ? 0 : 1e-4;
  o.closest = p % 5 == 0;
  o.spherical = p % 8 == 3 && data == "mixture";
  o.int8 = int8;
  if (p % 8 == 6) {
    o.batch_size = 50;
    o.closest = false;
  }
  o.sample_weight = problem.inputs[SY_KMEANS_IN_WEIGHTS];
  const TensorView x = problem.inputs[SY_KMEANS_IN_X];
  auto want = kmeans::fit(reference, x, o);
  EXPECT_TRUE(want) << data << p << ": " << want.error().message;
  if (!want) return 0;
  int fits = 0;
  for (const auto &[id, variant] : fast_kernels(SY_OP_KMEANS_STEP)) {
    if (variant.starts_with(".int8") != int8 || (variant == ".boxes" && d > 8)) continue;
    // Two of the four for each problem; the plugins of one thread need not be asked for more.
    for (const int t : {p + p / 4, p + p / 4 + 1 + p % 3}) {
      const std::uint32_t threads = id.starts_with("avx") ? 1 : kThreads[t % 4];
      auto runner = PluginRunner::load(id, threads, true, variant);
      // Operations without such a variant take their first kernel.
      MixedRunner mixed(*runner, rest_of(id, threads));
      auto got = kmeans::fit(mixed, x, o);
      EXPECT_TRUE(got) << id << variant << ": " << got.error().message;
      if (!got) return fits;
      expect_equal(*got, *want,
                   fmt::format("{}{}, {} threads, {}", id, variant, threads, problem.shape.text()));
      ++fits;
      if (id.starts_with("avx")) break;
    }
  }
  return fits;
}

TEST(KMeansIdentity, WholeFitsOverManyProblems) {
  auto reference = reference_runner();
  int problems = 0, fits = 0;
  for (std::string_view data : kmeans::data_kinds())
    for (int p = 0; p < 24; ++p, ++problems) fits += compare_fits(*reference, data, p, false);
  EXPECT_GE(problems, 200);
  RecordProperty("problems", problems);
  RecordProperty("fits", fits);
  std::printf("%d problems, %d fits compared with the reference\n", problems, fits);
}

TEST(KMeansIdentity, WholeFitsByCodes) {
  auto reference = reference_runner();
  int fits = 0;
  for (std::string_view data : kmeans::data_kinds())
    for (int p = 0; p < 9; ++p) fits += compare_fits(*reference, data, p, true);
  RecordProperty("fits", fits);
  std::printf("%d fits by codes compared with the reference\n", fits);
  EXPECT_GE(fits, 81);
}

TEST(KMeansIdentity, ThreadsThatShareOutManyUnits) {
  // Enough rows and centroids that several threads are at work for long: shared scratch would show.
  auto reference = reference_runner();
  for (const std::int64_t d : {3, 20}) {
    auto problem = points(30'000, d, "mixture", 5, false);
    KMeansOptions o;
    o.k = 300;
    o.init = "random";
    o.max_iter = 3;
    const TensorView x = problem.inputs[SY_KMEANS_IN_X];
    auto want = kmeans::fit(*reference, x, o);
    ASSERT_TRUE(want) << want.error().message;
    for (const auto &[id, variant] : fast_kernels(SY_OP_KMEANS_STEP)) {
      if (variant.starts_with(".int8") || (d > 8 && variant == ".boxes")) continue;
      for (const std::uint32_t threads : {2u, 7u}) {
        auto runner = PluginRunner::load(id, threads, true, variant);
        MixedRunner mixed(*runner, rest_of(id, threads));
        auto got = kmeans::fit(mixed, x, o);
        ASSERT_TRUE(got) << id << variant << ": " << got.error().message;
        expect_equal(*got, *want, id + variant + ", " + std::to_string(threads) + " threads");
      }
    }
  }
}

TEST(KMeansFile, EqualsTheFitInMemory) {
  auto runner = PluginRunner::load("avx2", 2);
  if (runner == nullptr) GTEST_SKIP() << "no AVX2 here";
  const std::string path = ::testing::TempDir() + "kmeans_rows.npy",
                    labels = ::testing::TempDir() + "kmeans_labels.npy";
  for (const char *data : {"mixture", "duplicates", "uniform"})
    for (const char *init : {"random", "k-means++", "given"}) {
      auto problem = points(40'000, 5, data, 3);
      const TensorView x = problem.inputs[SY_KMEANS_IN_X];
      ASSERT_TRUE(write_npy(path, x));
      KMeansOptions o;
      o.k = 11;
      o.init = init;
      o.max_iter = 9;
      o.tol = 1e-6;
      std::vector<float> start(55, 3.0f);  // all alike: clusters run empty
      for (std::size_t c = 0; c < 5; ++c) start[c] = 0.25f;
      o.init_centroids = TensorView(start.data(), {11, 5});
      // Pieces of one block for all but the seeds, which need all rows to be the same.
      const bool seeds = std::string_view(init) == "k-means++";
      const std::uint64_t memory = seeds ? std::uint64_t{8} << 20 : 400'000;
      auto want = kmeans::fit(*runner, x, o);
      auto got = kmeans::fit_file(*runner, path, o, labels, memory);
      ASSERT_TRUE(want);
      ASSERT_TRUE(got) << got.error().message;
      auto written = read_npy(labels);
      ASSERT_TRUE(written);
      got->labels = std::move(*written);
      expect_equal(*got, *want, std::string(data) + " " + init);
      auto inertia = kmeans::assign_file(*runner, path, want->centroids, labels, {}, 400'000);
      ASSERT_TRUE(inertia);
      EXPECT_EQ(*inertia, want->inertia);
      EXPECT_EQ(bytes(*read_npy(labels)), bytes(want->labels));
    }
  std::filesystem::remove(path);
  std::filesystem::remove(labels);
}

TEST(KMeansFile, NamesTheValueThatIsNotFinite) {
  auto runner = reference_runner();
  auto problem = points(20'000, 3, "mixture", 1);
  const std::string path = ::testing::TempDir() + "kmeans_nan.npy";
  problem.inputs[SY_KMEANS_IN_X].data<float>()[3 * 15'000 + 2] = std::nanf("");
  ASSERT_TRUE(write_npy(path, problem.inputs[SY_KMEANS_IN_X]));
  KMeansOptions o;
  o.k = 3;
  auto fit = kmeans::fit_file(*runner, path, o, {}, 200'000);
  ASSERT_FALSE(fit);
  EXPECT_EQ(fit.error().code, ErrorCode::nonfinite);
  EXPECT_NE(fit.error().message.find("[15000, 2]"), std::string::npos) << fit.error().message;
  std::filesystem::remove(path);
}

TEST(KMeansTransform, GivesRootsOfTheCanonicalDistance) {
  auto runner = reference_runner();
  auto problem = points(300, 19, "mixture", 4);
  const TensorView x = problem.inputs[SY_KMEANS_IN_X], c = problem.inputs[SY_KMEANS_IN_CENTROIDS];
  auto want = kmeans::transform(*runner, x, c, nullptr);
  ASSERT_TRUE(want);
  for (std::int64_t i : {0, 7, 299})
    for (std::int64_t j = 0; j < 7; ++j)
      EXPECT_EQ(want->data<float>()[i * 7 + j],
                std::sqrt(kmeans::distance(x.data<float>() + i * x.stride(0),
                                           c.data<float>() + j * 19, 19)));
  for (const auto &id : fast_backends()) {
    auto got = kmeans::transform(*PluginRunner::load(id, 3), x, c, nullptr);
    ASSERT_TRUE(got);
    EXPECT_EQ(bytes(*got), bytes(*want)) << id;
  }
}

TEST(KMeansProduct, DecodesToTheInertia) {
  auto runner = PluginRunner::load("avx2", 2);
  if (runner == nullptr) GTEST_SKIP() << "no AVX2 here";
  auto problem = points(500, 12, "mixture", 9);
  const TensorView x = problem.inputs[SY_KMEANS_IN_X];
  KMeansOptions o;
  o.k = 16;
  auto made = kmeans::product(*runner, x, 4, o);
  ASSERT_TRUE(made);
  double error = 0;
  for (std::int64_t i = 0; i < 500; ++i)
    for (std::int64_t m = 0; m < 12; ++m) {
      const auto code = made->codes.data<std::uint8_t>()[i * 4 + m / 3];
      const double t =
          static_cast<double>(x.data<float>()[i * x.stride(0) + m]) -
          static_cast<double>(made->codebooks.data<float>()[(m / 3 * 16 + code) * 3 + m % 3]);
      error += t * t;
    }
  EXPECT_NEAR(made->inertia, error, 1e-4 * error);
  EXPECT_FALSE(kmeans::product(*runner, x, 5, o));
}

TEST(KMeansSweep, FindsTheNumberOfSeparateClusters) {
  auto runner = PluginRunner::load("avx2", 2);
  if (runner == nullptr) GTEST_SKIP() << "no AVX2 here";
  // Four heaps far apart.
  auto problem = points(800, 6, "uniform", 2);
  auto *x = problem.inputs[SY_KMEANS_IN_X].data<float>();
  for (std::int64_t i = 0; i < 800; ++i) x[i * 6 + i % 4] += 20;
  KMeansOptions o;
  o.n_init = 4;
  auto swept = kmeans::sweep(*runner, problem.inputs[SY_KMEANS_IN_X], {2, 3, 4, 5, 6, 8}, o, 300);
  ASSERT_TRUE(swept);
  EXPECT_EQ(swept->silhouette_k, 4);
  EXPECT_EQ(swept->elbow_k, 4);
  for (const auto &e : swept->entries) {
    EXPECT_GE(e.silhouette, -1);
    EXPECT_LE(e.silhouette, 1);
  }
  EXPECT_FALSE(kmeans::sweep(*runner, problem.inputs[SY_KMEANS_IN_X], {3, 2}, o, 300));
}

TEST(KMeansSpherical, HasUnitCentroidsAndRefusesZeroRows) {
  auto runner = reference_runner();
  auto problem = points(200, 9, "mixture", 6);
  KMeansOptions o;
  o.k = 5;
  o.spherical = true;
  auto fit = kmeans::fit(*runner, problem.inputs[SY_KMEANS_IN_X], o);
  ASSERT_TRUE(fit);
  for (std::int64_t j = 0; j < 5; ++j) {
    double square = 0;
    for (std::int64_t m = 0; m < 9; ++m)
      square += std::pow(static_cast<double>(fit->centroids.data<float>()[j * 9 + m]), 2);
    EXPECT_NEAR(square, 1, 1e-6);
  }
  // Lengths do not matter.
  auto *x = problem.inputs[SY_KMEANS_IN_X].data<float>();
  for (std::int64_t i = 0; i < 200; ++i)
    for (std::int64_t m = 0; m < 9; ++m) x[i * 9 + m] *= i % 2 == 0 ? 4.0f : 0.5f;
  auto scaled = kmeans::fit(*runner, problem.inputs[SY_KMEANS_IN_X], o);
  ASSERT_TRUE(scaled);
  EXPECT_EQ(bytes(scaled->labels), bytes(fit->labels));
  std::fill_n(x + 9 * 17, 9, 0.0f);
  auto refused = kmeans::fit(*runner, problem.inputs[SY_KMEANS_IN_X], o);
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find("row 17"), std::string::npos);
}

TEST(KMeansParallelInit, SpreadsSeedsOverSeparateHeaps) {
  auto runner = PluginRunner::load("avx2", 2);
  if (runner == nullptr) GTEST_SKIP() << "no AVX2 here";
  auto problem = points(3000, 3, "uniform", 8);
  auto *x = problem.inputs[SY_KMEANS_IN_X].data<float>();
  for (std::int64_t i = 0; i < 3000; ++i) x[i * 3] += 10.0f * static_cast<float>(i % 6);
  KMeansOptions o;
  o.k = 6;
  o.max_iter = 1;
  for (std::uint64_t seed = 0; seed < 8; ++seed) {
    o.seed = seed;
    o.init = "k-means||";
    auto fit = kmeans::fit(*runner, problem.inputs[SY_KMEANS_IN_X], o);
    ASSERT_TRUE(fit);
    EXPECT_LT(fit->inertia, 3000 * 0.3) << seed;  // every heap has its own centroid
  }
}

}  // namespace
}  // namespace switchyard::testing
