// SPDX-License-Identifier: Apache-2.0
#include "kmeans/init.hpp"

#include <switchyard/ops/kmeans.h>
#include <switchyard/ops/kmeans_exact.h>

#include <algorithm>
#include <unordered_map>

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
  // Fisher-Yates whose untouched places are implicit.
  std::unordered_map<std::int64_t, std::int64_t> moved;
  const auto at = [&](std::int64_t place) {
    const auto found = moved.find(place);
    return found == moved.end() ? place : found->second;
  };
  for (std::int64_t j = 0; j < k; ++j) {
    sy_kmeans_draws draws{seed, run, static_cast<std::uint32_t>(j), 0, 0};
    const std::int64_t place =
        j + static_cast<std::int64_t>(sy_kmeans_below(&draws, static_cast<std::uint64_t>(n - j)));
    const std::int64_t row = at(place);
    moved[place] = at(j);
    copy_row(in, pool.empty() ? row : pool[static_cast<std::size_t>(row)], centroids + j * in.d());
  }
}

Status plus_plus(Runner &runner, const Input &in, std::int64_t k, std::uint64_t seed,
                 std::uint32_t run, Poller &poller, float *centroids) {
  auto rows = Tensor::empty(dtypes::i64, std::array{k});
  if (!rows) return tl::unexpected(rows.error());
  CallFrame frame(SY_KMEANS_SEED_INPUTS, SY_KMEANS_SEED_OUTPUTS);
  frame.input(SY_KMEANS_SEED_IN_X, in.x);
  frame.input(SY_KMEANS_SEED_IN_WEIGHTS, in.weights);
  frame.output(SY_KMEANS_SEED_OUT_ROWS, *rows);
  sy_kmeans_seed_params params{};
  params.seed = seed;
  params.run = run;
  frame.params(params);
  frame.call().threads = runner.threads();
  poller.watch(frame.call());
  if (auto s = runner.run(SY_OP_KMEANS_SEED, frame.call(), nullptr, nullptr); !s) return s;
  for (std::int64_t j = 0; j < k; ++j)
    copy_row(in, rows->data<std::int64_t>()[j], centroids + j * in.d());
  return {};
}

}  // namespace switchyard::kmeans
