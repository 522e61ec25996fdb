// SPDX-License-Identifier: Apache-2.0
#include "kmeans/uses.hpp"

#include <fmt/format.h>
#include <switchyard/ops/kmeans.h>

#include <algorithm>
#include <cmath>

#include "base/checked.hpp"
#include "kmeans/fit.hpp"
#include "kmeans/init.hpp"
#include "kmeans/tally.hpp"

namespace switchyard::kmeans {
namespace {

constexpr std::uint32_t kSampleRun = 0x40000000;  // draws that no fit uses

/// Euclidean distances, f32 [n, k]: pieces of rows that stay in the cache, a centroid at a time.
Status distances(Runner &runner, const Input &in, const TensorView &centroids, float *out,
                 Tally *tally) {
  const std::int64_t n = in.n(), d = in.d(), k = centroids.dim(0);
  const std::int64_t rows = std::clamp<std::int64_t>(65536 / d, 64, 4096);
  std::mutex mutex;
  Status first{};
  runner.parallel_for(static_cast<std::uint64_t>(ceil_div(n, rows)), [&](std::uint64_t piece) {
    const std::int64_t begin = static_cast<std::int64_t>(piece) * rows;
    const std::array shape{std::min(rows, n - begin), d};
    const std::array<std::int64_t, 2> strides{in.x.stride(0), 1};
    const TensorView x(const_cast<float *>(in.row(begin)), dtypes::f32, shape, strides);
    std::vector<float> column(static_cast<std::size_t>(shape[0]));
    for (std::int64_t j = 0; j < k; ++j) {
      CallFrame frame(SY_KMEANS_ASSIGN_INPUTS, SY_KMEANS_ASSIGN_OUTPUTS);
      frame.input(SY_KMEANS_IN_X, x);
      frame.input(SY_KMEANS_IN_CENTROIDS, TensorView(centroids.data<float>() + j * d, {1, d}));
      frame.output(SY_KMEANS_ASSIGN_OUT_DISTANCES, TensorView(static_cast<void *>(column.data()),
                                                              dtypes::f32, std::array{shape[0]}));
      sy_kmeans_params params{};
      frame.params(params);
      Answer answer;
      auto s = runner.run(SY_OP_KMEANS_ASSIGN, frame.call(), nullptr, &answer);
      const std::lock_guard lock(mutex);
      if (!first) return;
      if (!s) {
        first = std::move(s);
        return;
      }
      if (tally != nullptr) tally->add(answer);
      for (std::int64_t i = 0; i < shape[0]; ++i)
        out[(begin + i) * k + j] = std::sqrt(column[static_cast<std::size_t>(i)]);
    }
  });
  return first;
}

/// Mean silhouette of sampled rows: how much nearer a row is, on average, to the sampled rows of
/// its own cluster than to those of the nearest other cluster. Rows alone in their cluster count 0.
double silhouette(const std::vector<float> &apart, const std::vector<std::int32_t> &labels,
                  std::int64_t k) {
  const std::size_t n = labels.size();
  std::vector<std::int64_t> size(static_cast<std::size_t>(k));
  for (std::int32_t l : labels) ++size[static_cast<std::size_t>(l)];
  double total = 0;
  std::vector<double> sum(size.size());
  for (std::size_t i = 0; i < n; ++i) {
    const auto own = static_cast<std::size_t>(labels[i]);
    if (size[own] < 2) continue;
    std::ranges::fill(sum, 0.0);
    for (std::size_t j = 0; j < n; ++j)
      sum[static_cast<std::size_t>(labels[j])] += static_cast<double>(apart[i * n + j]);
    const double inside = sum[own] / static_cast<double>(size[own] - 1);
    double outside = HUGE_VAL;
    for (std::size_t c = 0; c < sum.size(); ++c)
      if (c != own && size[c] > 0)
        outside = std::min(outside, sum[c] / static_cast<double>(size[c]));
    const double larger = std::max(inside, outside);
    if (std::isfinite(outside) && larger > 0) total += (outside - inside) / larger;
  }
  return total / static_cast<double>(n);
}

/// The entry farthest below the straight line from the first to the last, both axes scaled to 1.
std::int64_t elbow(const std::vector<SweepResult::Entry> &entries) {
  const auto &a = entries.front(), &z = entries.back();
  std::int64_t best = a.k;
  double deepest = 0;
  for (const auto &e : entries) {
    const double along =
        a.k == z.k ? 0 : static_cast<double>(e.k - a.k) / static_cast<double>(z.k - a.k);
    const double fallen =
        a.inertia > z.inertia ? (a.inertia - e.inertia) / (a.inertia - z.inertia) : 0;
    if (fallen - along > deepest) {
      deepest = fallen - along;
      best = e.k;
    }
  }
  return best;
}

}  // namespace

Result<Tensor> transform(Runner &runner, const TensorView &x, const TensorView &centroids,
                         RunInfo *info) {
  const Clock clock;
  auto in = make_input(runner, x, {}, false);
  if (!in) return tl::unexpected(in.error());
  Tensor owned;
  auto c = check_centroids(centroids, in->d(), owned, "centroids");
  if (!c) return tl::unexpected(c.error());
  auto out = Tensor::empty(dtypes::f32, std::array{in->n(), c->dim(0)});
  if (!out) return out;
  Tally tally;
  if (auto s = distances(runner, *in, *c, out->data<float>(), &tally); !s)
    return tl::unexpected(s.error());
  if (info != nullptr) {
    tally.fill(*info);
    info->time_ms = clock.ms();
  }
  return out;
}

Result<ProductResult> product(Runner &runner, const TensorView &x, std::int64_t groups,
                              const KMeansOptions &options) {
  const Clock clock;
  if (x.rank() != 2 || groups < 1 || x.dim(1) % groups != 0)
    return fail(
        ErrorCode::shape,
        fmt::format("x has shape {}; product quantisation needs [n, d] with d a multiple of "
                    "the {} groups",
                    shape_text(x.shape()), groups));
  if (options.init == "given")
    return fail(ErrorCode::invalid_argument, "product quantisation takes no given centroids");
  const std::int64_t n = x.dim(0), width = x.dim(1) / groups, k = options.k;
  const bool narrow = k <= 256;
  ProductResult result;
  auto books = Tensor::empty(dtypes::f32, std::array{groups, std::max<std::int64_t>(k, 1), width});
  auto codes = Tensor::empty(narrow ? dtypes::u8 : dtypes::i32, std::array{n, groups});
  if (!books) return tl::unexpected(books.error());
  if (!codes) return tl::unexpected(codes.error());
  for (std::int64_t g = 0; g < groups; ++g) {
    const std::array shape{n, width};
    const std::array<std::int64_t, 2> strides{x.stride(0), x.stride(1)};
    const auto offset =
        static_cast<std::ptrdiff_t>(static_cast<std::uint64_t>(g * width) * size_of(x.dtype())) *
        static_cast<std::ptrdiff_t>(x.stride(1));
    TensorView part(static_cast<void *>(const_cast<std::byte *>(x.data<std::byte>()) + offset),
                    x.dtype(), shape, strides);
    KMeansOptions mine = options;
    mine.seed += static_cast<std::uint64_t>(g);
    auto fitted = fit(runner, part, mine);
    if (!fitted) return tl::unexpected(fitted.error());
    if (fitted->cancelled) return fail(ErrorCode::cancelled, "product quantisation was cancelled");
    std::copy_n(fitted->centroids.data<float>(), k * width, books->data<float>() + g * k * width);
    const auto *labels = fitted->labels.data<std::int32_t>();
    for (std::int64_t i = 0; i < n; ++i)
      if (narrow)
        codes->data<std::uint8_t>()[i * groups + g] = static_cast<std::uint8_t>(labels[i]);
      else
        codes->data<std::int32_t>()[i * groups + g] = labels[i];
    result.inertia += fitted->inertia;
    if (g == 0) result.info = fitted->info;
  }
  result.codebooks = std::move(*books);
  result.codes = std::move(*codes);
  result.info.time_ms = clock.ms();
  return result;
}

Result<SweepResult> sweep(Runner &runner, const TensorView &x, const std::vector<std::int64_t> &ks,
                          const KMeansOptions &options, std::int64_t sample) {
  if (ks.empty()) return fail(ErrorCode::invalid_argument, "no k to try was given");
  if (!std::ranges::is_sorted(ks, std::ranges::less_equal()))
    return fail(ErrorCode::invalid_argument, "the k to try must ascend");
  if (sample < 2) return fail(ErrorCode::invalid_argument, "the sample must be at least 2 rows");
  if (options.init == "given")
    return fail(ErrorCode::invalid_argument, "a sweep over k takes no given centroids");
  auto in = make_input(runner, x, options.sample_weight, false, options.spherical);
  if (!in) return tl::unexpected(in.error());
  const std::int64_t count = std::min(sample, in->n());
  std::vector<float> rows(static_cast<std::size_t>(count * in->d()));
  random_rows(*in, count, options.seed, kSampleRun, rows.data());
  const TensorView sampled(rows.data(), {count, in->d()});
  auto among = make_input(runner, sampled, {}, false);
  if (!among) return tl::unexpected(among.error());
  std::vector<float> apart(static_cast<std::size_t>(count * count));
  if (auto s = distances(runner, *among, sampled, apart.data(), nullptr); !s)
    return tl::unexpected(s.error());

  SweepResult result;
  for (std::int64_t k : ks) {
    KMeansOptions mine = options;
    mine.k = k;
    auto fitted = fit(runner, x, mine);
    if (!fitted) return tl::unexpected(fitted.error());
    if (fitted->cancelled) return fail(ErrorCode::cancelled, "the sweep over k was cancelled");
    auto labels = assign(runner, sampled, fitted->centroids, nullptr);
    if (!labels) return tl::unexpected(labels.error());
    const auto *l = labels->data<std::int32_t>();
    result.entries.push_back(
        {k, fitted->inertia, k > 1 ? silhouette(apart, {l, l + count}, k) : 0, fitted->n_iter});
  }
  result.elbow_k = elbow(result.entries);
  result.silhouette_k =
      std::ranges::max_element(result.entries, {}, &SweepResult::Entry::silhouette)->k;
  return result;
}

}  // namespace switchyard::kmeans
