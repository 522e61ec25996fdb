// SPDX-License-Identifier: Apache-2.0
#include "kmeans/init.hpp"

#include <switchyard/ops/kmeans.h>
#include <switchyard/ops/kmeans_exact.h>

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <unordered_map>

#include "base/checked.hpp"

namespace switchyard::kmeans {
namespace {

void copy_row(const Input &in, std::int64_t i, float *centroid) {
  std::copy_n(in.row(i), in.d(), centroid);
}

}  // namespace

void random_rows(const Input &in, std::int64_t k, std::uint64_t seed, std::uint32_t run,
                 float *centroids) {
  std::vector<std::int64_t> pool;  // rows to draw from; empty = all
  if (in.weights.present()) {
    for (std::int64_t i = 0; i < in.n(); ++i)
      if (in.weight(i) > 0) pool.push_back(i);
    if (static_cast<std::int64_t>(pool.size()) < k) pool.clear();
  }
  const std::int64_t n = pool.empty() ? in.n() : static_cast<std::int64_t>(pool.size());
  std::int64_t j = 0;
  for (std::int64_t row : random_numbers(n, k, seed, run))
    copy_row(in, pool.empty() ? row : pool[static_cast<std::size_t>(row)],
             centroids + j++ * in.d());
}

std::vector<std::int64_t> random_numbers(std::int64_t n, std::int64_t k, std::uint64_t seed,
                                         std::uint32_t run) {
  // Fisher-Yates whose untouched places are implicit.
  std::unordered_map<std::int64_t, std::int64_t> moved;
  const auto at = [&](std::int64_t place) {
    const auto found = moved.find(place);
    return found == moved.end() ? place : found->second;
  };
  std::vector<std::int64_t> numbers;
  for (std::int64_t j = 0; j < k; ++j) {
    sy_kmeans_draws draws{seed, run, static_cast<std::uint32_t>(j), 0, 0};
    const std::int64_t place =
        j + static_cast<std::int64_t>(sy_kmeans_below(&draws, static_cast<std::uint64_t>(n - j)));
    numbers.push_back(at(place));
    moved[place] = at(j);
  }
  return numbers;
}

namespace {

Status seed_rows(Runner &runner, const TensorView &x, const TensorView &weights, std::uint64_t seed,
                 std::uint32_t run, Poller &poller, std::span<std::int64_t> rows) {
  CallFrame frame(SY_KMEANS_SEED_INPUTS, SY_KMEANS_SEED_OUTPUTS);
  frame.input(SY_KMEANS_SEED_IN_X, x);
  frame.input(SY_KMEANS_SEED_IN_WEIGHTS, weights);
  frame.output(SY_KMEANS_SEED_OUT_ROWS,
               TensorView(static_cast<void *>(rows.data()), dtypes::i64,
                          std::array{static_cast<std::int64_t>(rows.size())}));
  sy_kmeans_seed_params params{};
  params.seed = seed;
  params.run = run;
  frame.params(params);
  frame.call().threads = runner.threads();
  poller.watch(frame.call());
  return runner.run(SY_OP_KMEANS_SEED, frame.call(), nullptr, nullptr);
}

/// D* and label of each row among some centroids.
Status nearest_of(Runner &runner, const Input &in, const TensorView &centroids, Poller &poller,
                  std::vector<float> &distances, std::vector<std::int32_t> *labels) {
  CallFrame frame(SY_KMEANS_ASSIGN_INPUTS, SY_KMEANS_ASSIGN_OUTPUTS);
  frame.input(SY_KMEANS_IN_X, in.x);
  frame.input(SY_KMEANS_IN_CENTROIDS, centroids);
  const std::array rows{in.n()};
  frame.output(SY_KMEANS_ASSIGN_OUT_DISTANCES,
               TensorView(static_cast<void *>(distances.data()), dtypes::f32, rows));
  if (labels != nullptr)
    frame.output(SY_KMEANS_ASSIGN_OUT_LABELS,
                 TensorView(static_cast<void *>(labels->data()), dtypes::i32, rows));
  sy_kmeans_params params{};
  frame.params(params);
  frame.call().threads = runner.threads();
  poller.watch(frame.call());
  return runner.run(SY_OP_KMEANS_ASSIGN, frame.call(), nullptr, nullptr);
}

/// The rows of one round of k-means||, ascending. Row i is drawn if u total < 2 k chance(i) 2^64, u
/// being draw {index i mod 2^32, trial i / 2^32} of the round.
std::vector<std::int64_t> draw_round(Runner &runner, const Input &in, std::int64_t k,
                                     const std::vector<float> &nearest, std::uint64_t seed,
                                     std::uint32_t run, std::uint32_t round) {
  constexpr std::int64_t kRows = SY_KMEANS_INERTIA_BLOCK;
  const std::int64_t blocks = ceil_div(in.n(), kRows);
  std::vector<double> largest(static_cast<std::size_t>(blocks));
  std::vector<std::uint64_t> sums(largest.size());
  std::vector<std::vector<std::int64_t>> drawn(largest.size());
  const auto weighted = [&](std::int64_t i) {
    return in.weight(i) * static_cast<double>(nearest[static_cast<std::size_t>(i)]);
  };
  const auto each_block = [&](auto &&fn) {
    runner.parallel_for(static_cast<std::uint64_t>(blocks), [&](std::uint64_t b) {
      const std::int64_t begin = static_cast<std::int64_t>(b) * kRows;
      for (std::int64_t i = begin; i < std::min(in.n(), begin + kRows); ++i) fn(b, i);
    });
  };
  each_block(
      [&](std::uint64_t b, std::int64_t i) { largest[b] = std::max(largest[b], weighted(i)); });
  const double scale = std::ldexp(1.0, sy_kmeans_shift(std::ranges::max(largest), in.n()));
  const auto chance = [&](std::int64_t i) {
    return static_cast<std::uint64_t>(weighted(i) * scale);
  };
  each_block([&](std::uint64_t b, std::int64_t i) { sums[b] += chance(i); });
  std::uint64_t total = 0;
  for (std::uint64_t s : sums) total += s;
  const auto expected = static_cast<sy_kmeans_wide>(2 * k);
  each_block([&](std::uint64_t b, std::int64_t i) {
    sy_kmeans_draws draws{seed, run, round, static_cast<std::uint32_t>(i >> 32),
                          static_cast<std::uint32_t>(i)};
    const auto u = static_cast<sy_kmeans_wide>(sy_kmeans_next(&draws));
    if (static_cast<std::uint64_t>(u * total >> 64) < expected * chance(i)) drawn[b].push_back(i);
  });
  std::vector<std::int64_t> rows;
  for (const auto &d : drawn) rows.insert(rows.end(), d.begin(), d.end());
  return rows;
}

}  // namespace

Status parallel_draws(Runner &runner, const Input &in, std::int64_t k, std::uint64_t seed,
                      std::uint32_t run, Poller &poller, float *centroids) {
  constexpr std::uint32_t kRounds = 5, kStep = 0x80000000;  // steps that k-means++ does not use
  std::vector<std::int64_t> rows(1);
  if (auto s = seed_rows(runner, in.x, in.weights, seed, run, poller, rows); !s) return s;
  std::vector<float> nearest(static_cast<std::size_t>(in.n()), FLT_MAX), distances = nearest;
  std::vector<float> candidates;
  std::vector<std::int64_t> fresh = rows;
  for (std::uint32_t round = 0; !fresh.empty(); ++round) {
    const std::size_t before = candidates.size();
    candidates.resize(before + fresh.size() * static_cast<std::size_t>(in.d()));
    for (std::size_t r = 0; r < fresh.size(); ++r)
      copy_row(in, fresh[r], candidates.data() + before + r * static_cast<std::size_t>(in.d()));
    if (round == kRounds) break;
    const TensorView added(candidates.data() + before,
                           {static_cast<std::int64_t>(fresh.size()), in.d()});
    if (auto s = nearest_of(runner, in, added, poller, distances, nullptr); !s) return s;
    for (std::size_t i = 0; i < nearest.size(); ++i)
      nearest[i] = std::min(nearest[i], distances[i]);
    fresh = draw_round(runner, in, k, nearest, seed, run, kStep + round);
  }
  const std::int64_t count = static_cast<std::int64_t>(candidates.size()) / in.d();
  if (count < k) return plus_plus(runner, in, k, seed, run, poller, centroids);
  const TensorView among(candidates.data(), {count, in.d()});
  std::vector<std::int32_t> labels(static_cast<std::size_t>(in.n()));
  if (auto s = nearest_of(runner, in, among, poller, distances, &labels); !s) return s;
  std::vector<double> weights(static_cast<std::size_t>(count));
  for (std::int64_t i = 0; i < in.n(); ++i)
    weights[static_cast<std::size_t>(labels[static_cast<std::size_t>(i)])] += in.weight(i);
  std::vector<float> rounded(weights.begin(), weights.end());
  rows.resize(static_cast<std::size_t>(k));
  if (auto s =
          seed_rows(runner, among, TensorView(rounded.data(), {count}), seed, run, poller, rows);
      !s)
    return s;
  for (std::int64_t j = 0; j < k; ++j)
    std::copy_n(candidates.data() + rows[static_cast<std::size_t>(j)] * in.d(), in.d(),
                centroids + j * in.d());
  return {};
}

Status plus_plus(Runner &runner, const Input &in, std::int64_t k, std::uint64_t seed,
                 std::uint32_t run, Poller &poller, float *centroids) {
  std::vector<std::int64_t> rows(static_cast<std::size_t>(k));
  if (auto s = seed_rows(runner, in.x, in.weights, seed, run, poller, rows); !s) return s;
  for (std::int64_t j = 0; j < k; ++j)
    copy_row(in, rows[static_cast<std::size_t>(j)], centroids + j * in.d());
  return {};
}

Status first_centroids(Runner &runner, const Input &in, const KMeansOptions &options,
                       const TensorView &given, std::uint32_t run, Poller &poller,
                       float *centroids) {
  if (options.init == "given")
    std::copy_n(given.data<float>(), given.elements(), centroids);
  else if (options.init == "k-means++")
    return plus_plus(runner, in, options.k, options.seed, run, poller, centroids);
  else if (options.init == "k-means||")
    return parallel_draws(runner, in, options.k, options.seed, run, poller, centroids);
  else
    random_rows(in, options.k, options.seed, run, centroids);
  return {};
}

}  // namespace switchyard::kmeans
