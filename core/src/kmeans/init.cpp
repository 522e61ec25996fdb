// SPDX-License-Identifier: Apache-2.0
#include "kmeans/init.hpp"

#include <switchyard/ops/kmeans.h>

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <unordered_map>

#include "base/checked.hpp"
#include "kmeans/fixed_point.hpp"
#include "kmeans/philox.hpp"

namespace switchyard::kmeans {
namespace {

void copy_row(const Input &in, std::int64_t i, float *centroid) {
  std::copy_n(in.row(i), in.d(), centroid);
}

/// What greedy k-means++ knows of every row: D* to the nearest centroid so far.
class PlusPlus {
 public:
  PlusPlus(Runner &runner, const Input &in, Poller &poller)
      : runner_(runner),
        in_(in),
        poller_(poller),
        rows_(std::clamp<std::int64_t>(65536 / in.d(), 64, SY_KMEANS_INERTIA_BLOCK)),
        chunks_(ceil_div(in.n(), rows_)),
        nearest_(static_cast<std::size_t>(in.n()), FLT_MAX),
        sums_(static_cast<std::size_t>(chunks_)) {}

  /// Total of all rows' chances, scaled anew; 0 when every row is on a centroid.
  std::uint64_t total();
  /// The row in whose share of [0, total) `point` lies.
  std::int64_t find(std::uint64_t point) const;
  /// What the total would be with each of the rows as a centroid.
  Status potentials(std::span<const std::int64_t> rows, std::vector<std::uint64_t> &out);
  /// Makes a row a centroid.
  Status accept(std::int64_t row);
  /// The first centroid is drawn by weight alone.
  void weights_only() { std::ranges::fill(nearest_, 1.0f); }
  void forget() { std::ranges::fill(nearest_, FLT_MAX); }

 private:
  std::uint64_t chance(std::int64_t i, float distance) const noexcept {
    return static_cast<std::uint64_t>(in_.weight(i) * static_cast<double>(distance) * scale_);
  }
  float nearest(std::int64_t i) const noexcept { return nearest_[static_cast<std::size_t>(i)]; }
  /// D* of a chunk's rows to one row, at most FLT_MAX.
  Status distances(std::int64_t begin, std::int64_t end, std::int64_t row, float *out);
  /// fn(chunk, begin, end) for all chunks; the first failure, or cancellation.
  Status for_chunks(const std::function<Status(std::int64_t, std::int64_t, std::int64_t)> &fn);

  Runner &runner_;
  const Input &in_;
  Poller &poller_;
  std::int64_t rows_, chunks_;
  std::vector<float> nearest_;
  std::vector<std::uint64_t> sums_;
  double scale_ = 1;
};

Status PlusPlus::for_chunks(
    const std::function<Status(std::int64_t, std::int64_t, std::int64_t)> &fn) {
  std::mutex mutex;
  Status first{};
  runner_.parallel_for(static_cast<std::uint64_t>(chunks_), [&](std::uint64_t c) {
    if (poller_.stop(0)) return;
    const std::int64_t begin = static_cast<std::int64_t>(c) * rows_;
    if (auto s = fn(static_cast<std::int64_t>(c), begin, std::min(in_.n(), begin + rows_)); !s) {
      const std::lock_guard lock(mutex);
      if (first) first = std::move(s);
    }
  });
  if (poller_.stopped()) return fail(ErrorCode::cancelled, "k-means was cancelled");
  return first;
}

Status PlusPlus::distances(std::int64_t begin, std::int64_t end, std::int64_t row, float *out) {
  CallFrame frame(SY_KMEANS_ASSIGN_INPUTS, SY_KMEANS_ASSIGN_OUTPUTS);
  const std::array shape{end - begin, in_.d()};
  const std::array<std::int64_t, 2> strides{in_.x.stride(0), 1};
  frame.input(SY_KMEANS_IN_X,
              TensorView(const_cast<float *>(in_.row(begin)), dtypes::f32, shape, strides));
  frame.input(SY_KMEANS_IN_CENTROIDS, TensorView(in_.row(row), {1, in_.d()}));
  frame.output(SY_KMEANS_ASSIGN_OUT_DISTANCES,
               TensorView(static_cast<void *>(out), dtypes::f32, std::array{end - begin}));
  sy_kmeans_params params{};
  frame.params(params);
  if (auto s = runner_.run(SY_OP_KMEANS_ASSIGN, frame.call(), nullptr, nullptr); !s) return s;
  std::replace_if(
      out, out + (end - begin), [](float v) { return v > FLT_MAX; }, FLT_MAX);
  return {};
}

std::uint64_t PlusPlus::total() {
  std::vector<double> largest(sums_.size());
  runner_.parallel_for(sums_.size(), [&](std::uint64_t c) {
    const std::int64_t begin = static_cast<std::int64_t>(c) * rows_;
    double most = 0;
    for (std::int64_t i = begin; i < std::min(in_.n(), begin + rows_); ++i)
      most = std::max(most, in_.weight(i) * static_cast<double>(nearest(i)));
    largest[c] = most;
  });
  scale_ = std::ldexp(1.0, fixed_point_shift(std::ranges::max(largest), in_.n()));
  runner_.parallel_for(sums_.size(), [&](std::uint64_t c) {
    const std::int64_t begin = static_cast<std::int64_t>(c) * rows_;
    std::uint64_t sum = 0;
    for (std::int64_t i = begin; i < std::min(in_.n(), begin + rows_); ++i)
      sum += chance(i, nearest(i));
    sums_[c] = sum;
  });
  std::uint64_t total = 0;
  for (std::uint64_t s : sums_) total += s;
  return total;
}

std::int64_t PlusPlus::find(std::uint64_t point) const {
  std::size_t chunk = 0;
  while (point >= sums_[chunk]) point -= sums_[chunk++];
  for (std::int64_t i = static_cast<std::int64_t>(chunk) * rows_;; ++i) {
    const std::uint64_t mine = chance(i, nearest(i));
    if (point < mine) return i;
    point -= mine;
  }
}

Status PlusPlus::potentials(std::span<const std::int64_t> rows, std::vector<std::uint64_t> &out) {
  const std::size_t trials = rows.size();
  std::vector<std::uint64_t> parts(sums_.size() * trials);
  auto s = for_chunks([&](std::int64_t c, std::int64_t begin, std::int64_t end) -> Status {
    std::vector<float> distance(static_cast<std::size_t>(end - begin));
    for (std::size_t t = 0; t < trials; ++t) {
      if (auto status = distances(begin, end, rows[t], distance.data()); !status) return status;
      std::uint64_t sum = 0;
      for (std::int64_t i = begin; i < end; ++i)
        sum += chance(i, std::min(nearest(i), distance[static_cast<std::size_t>(i - begin)]));
      parts[static_cast<std::size_t>(c) * trials + t] = sum;
    }
    return {};
  });
  if (!s) return s;
  out.assign(trials, 0);
  for (std::size_t p = 0; p < parts.size(); ++p) out[p % trials] += parts[p];
  return {};
}

Status PlusPlus::accept(std::int64_t row) {
  return for_chunks([&](std::int64_t, std::int64_t begin, std::int64_t end) -> Status {
    std::vector<float> distance(static_cast<std::size_t>(end - begin));
    if (auto status = distances(begin, end, row, distance.data()); !status) return status;
    for (std::int64_t i = begin; i < end; ++i) {
      float &n = nearest_[static_cast<std::size_t>(i)];
      n = std::min(n, distance[static_cast<std::size_t>(i - begin)]);
    }
    return {};
  });
}

}  // namespace

int floor_ln(std::int64_t k) noexcept {
  // ceil(e^i): the least k with floor(ln k) = i.
  constexpr std::int64_t kLeast[] = {3,         8,         21,        55,      149,      404,
                                     1097,      2981,      8104,      22027,   59875,    162755,
                                     442414,    1202605,   3269018,   8886111, 24154953, 65659970,
                                     178482301, 485165196, 1318815735};
  int result = 0;
  while (result < static_cast<int>(std::size(kLeast)) && k >= kLeast[result]) ++result;
  return result;
}

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
    Draws draws(seed, run, static_cast<std::uint32_t>(j), 0);
    const std::int64_t place =
        j + static_cast<std::int64_t>(draws.below(static_cast<std::uint64_t>(n - j)));
    const std::int64_t row = at(place);
    moved[place] = at(j);
    copy_row(in, pool.empty() ? row : pool[static_cast<std::size_t>(row)], centroids + j * in.d());
  }
}

Status plus_plus(Runner &runner, const Input &in, std::int64_t k, std::uint64_t seed,
                 std::uint32_t run, Poller &poller, float *centroids) {
  PlusPlus state(runner, in, poller);
  const int trials = 2 + floor_ln(k);
  for (std::int64_t j = 0; j < k; ++j) {
    const auto step = static_cast<std::uint32_t>(j);
    if (j == 0) state.weights_only();
    const std::uint64_t total = state.total();
    std::vector<std::int64_t> candidates;
    for (int t = 0; t < (j == 0 ? 1 : trials); ++t) {
      Draws draws(seed, run, step, static_cast<std::uint32_t>(t));
      const std::int64_t row =
          total > 0 ? state.find(draws.below(total))
                    : static_cast<std::int64_t>(draws.below(static_cast<std::uint64_t>(in.n())));
      if (std::ranges::find(candidates, row) == candidates.end()) candidates.push_back(row);
    }
    std::size_t best = 0;
    if (candidates.size() > 1 && total > 0) {
      std::vector<std::uint64_t> potential;
      if (auto s = state.potentials(candidates, potential); !s) return s;
      best = static_cast<std::size_t>(std::ranges::min_element(potential) - potential.begin());
    }
    if (j == 0) state.forget();
    if (j + 1 < k)
      if (auto s = state.accept(candidates[best]); !s) return s;
    copy_row(in, candidates[best], centroids + j * in.d());
  }
  return {};
}

}  // namespace switchyard::kmeans
