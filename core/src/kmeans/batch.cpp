// SPDX-License-Identifier: Apache-2.0
/// Mini-batch k-means (Sculley, 2010) in exact arithmetic: the sums of all rows drawn so far are
/// integers, so the result depends neither on the backend nor on threads.
#include <switchyard/ops/kmeans.h>
#include <switchyard/ops/kmeans_exact.h>

#include "base/checked.hpp"
#include "kmeans/init.hpp"
#include "kmeans/step.hpp"

namespace switchyard::kmeans {
namespace {

/// A batch: rows drawn with replacement, draw {index 0, trial i, step t} of run 2^31.
class Batch {
 public:
  Batch(const Input &all, std::int64_t size) : all_(all), size_(size) {}

  Status allocate() {
    auto x = Tensor::empty(dtypes::f32, std::array{size_, all_.d()});
    if (!x) return tl::unexpected(x.error());
    batch_.owned_x = std::move(*x);
    batch_.x = batch_.owned_x;
    if (!all_.weights.present()) return {};
    auto w = Tensor::empty(dtypes::f32, std::array{size_});
    if (!w) return tl::unexpected(w.error());
    batch_.owned_weights = std::move(*w);
    batch_.weights = batch_.owned_weights;
    return {};
  }

  /// Shifts that leave room for `rows` rows, from those for all.
  Status make_room(std::int64_t rows) {
    auto shifts = Tensor::empty(dtypes::i32, std::array{all_.d()});
    if (!shifts) return tl::unexpected(shifts.error());
    for (std::int64_t m = 0; m < all_.d(); ++m)
      shifts->data<std::int32_t>()[m] =
          sy_kmeans_shift(all_.maxima[static_cast<std::size_t>(m)], rows);
    batch_.shifts = std::move(*shifts);
    batch_.weight_shift = sy_kmeans_shift(all_.largest_weight, rows);
    batch_.largest = all_.largest;
    return {};
  }

  const Input &draw(std::uint64_t seed, std::uint32_t step) {
    for (std::int64_t i = 0; i < size_; ++i) {
      sy_kmeans_draws draws{seed, 0x80000000u, step, static_cast<std::uint32_t>(i), 0};
      const auto row =
          static_cast<std::int64_t>(sy_kmeans_below(&draws, static_cast<std::uint64_t>(all_.n())));
      std::copy_n(all_.row(row), all_.d(), batch_.owned_x.data<float>() + i * all_.d());
      if (all_.weights.present())
        batch_.owned_weights.data<float>()[i] = all_.weights.data<float>()[row];
    }
    return batch_;
  }

 private:
  const Input &all_;
  std::int64_t size_;
  Input batch_;
};

void add_to(Tensor &sum, const Tensor &term) {
  auto *to = sum.data<std::int64_t>();
  const auto *from = term.data<std::int64_t>();
  for (std::int64_t c = 0; c < sum.elements(); ++c) to[c] += from[c];
}

}  // namespace

Result<KMeansResult> mini_batch(Runner &runner, const Input &in, const KMeansOptions &options,
                                const TensorView &given) {
  const std::int64_t d = in.d(), k = options.k;
  const auto rows = checked_mul(options.batch_size, static_cast<std::int64_t>(options.max_iter));
  if (!rows || options.batch_size > INT32_MAX)
    return fail(ErrorCode::overflow, "batch_size times max_iter is too large");
  Poller poller(options.progress);
  Tally tally;
  Batch batch(in, options.batch_size);
  StepOutputs part, all, whole;
  auto centroids = Tensor::empty(dtypes::f32, std::array{k, d});
  auto next = Tensor::empty(dtypes::f32, std::array{k, d});
  if (!centroids) return tl::unexpected(centroids.error());
  if (!next) return tl::unexpected(next.error());
  for (auto s : {batch.allocate(), batch.make_room(*rows), part.allocate(options.batch_size, d, k),
                 all.allocate(1, d, k), whole.allocate(in.n(), d, k)})
    if (!s) return tl::unexpected(s.error());
  for (Tensor *t : {&all.sums, &all.counts, &all.totals})
    std::fill_n(t->data<std::int64_t>(), t->elements(), 0);
  poller.span(0, 0);
  if (auto s = first_centroids(runner, in, options, given, 0, poller, centroids->data<float>()); !s)
    return tl::unexpected(s.error());

  KMeansResult result;
  const double steps = options.max_iter + 1, limit = options.tol * in.mean_variance;
  int quiet = 0;
  while (result.n_iter < options.max_iter && !result.converged) {
    poller.span(result.n_iter / steps, (result.n_iter + 1) / steps);
    const Input &drawn = batch.draw(options.seed, static_cast<std::uint32_t>(result.n_iter));
    if (auto s = run_step(runner, drawn, *centroids, {}, part, nullptr, poller, tally,
                          options.int8 ? Labels::int8 : Labels::exact);
        !s) {
      if (s.error().code != ErrorCode::cancelled || result.n_iter == 0)
        return tl::unexpected(s.error());
      result.cancelled = true;
      break;
    }
    add_to(all.sums, part.sums);
    add_to(all.counts, part.counts);
    if (in.weights.present()) add_to(all.totals, part.totals);
    update_centroids(runner, drawn, k, all.arrays(in.weights.present()), centroids->data<float>(),
                     next->data<float>());
    const double shift =
        centroid_shift(runner, k, d, next->data<float>(), centroids->data<float>());
    std::swap(*centroids, *next);
    ++result.n_iter;
    // Ten quiet steps in a row: a single batch may leave all centroids where they are.
    quiet = options.tol > 0 && shift <= limit ? quiet + 1 : 0;
    result.converged = quiet == 10;
  }
  poller.span(result.n_iter / steps, 1);
  const Progress nobody;
  Poller deaf(nobody);  // a cancelled fit still owes its labels
  auto last = run_step(runner, in, *centroids, {}, whole, nullptr, result.cancelled ? deaf : poller,
                       tally, Labels::exact);
  if (!last && last.error().code == ErrorCode::cancelled) {
    result.cancelled = true;
    last = run_step(runner, in, *centroids, {}, whole, nullptr, deaf, tally, Labels::exact);
  }
  if (!last) return tl::unexpected(last.error());
  result.empty_clusters =
      std::count(whole.counts.data<std::int64_t>(), whole.counts.data<std::int64_t>() + k, 0);
  result.inertia = whole.inertia();
  result.labels = std::move(whole.labels);
  result.counts = std::move(whole.counts);
  result.centroids = std::move(*centroids);
  tally.fill(result.info);
  return result;
}

}  // namespace switchyard::kmeans
