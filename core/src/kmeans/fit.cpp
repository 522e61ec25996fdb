// SPDX-License-Identifier: Apache-2.0
#include "kmeans/fit.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/checked.hpp"
#include "base/suggest.hpp"
#include "kmeans/init.hpp"
#include "kmeans/step.hpp"
#include "kmeans/tally.hpp"
#include "kmeans/update.hpp"

namespace switchyard::kmeans {
namespace {

/// A run's outcome in fewer bytes than a KMeansResult's tensors need owners.
struct Run {
  Tensor labels, centroids, counts, closest;
  double inertia = 0;
  int n_iter = 0;
  bool converged = false;
  std::int64_t empty = 0;
  bool complete = false;  ///< holds a result at all
};

class Fit {
 public:
  Fit(Runner &runner, const Input &in, const KMeansOptions &options, const TensorView &given)
      : runner_(runner),
        in_(in),
        options_(options),
        given_(given),
        poller_(options.progress),
        states_(runner.make_states(1u << SY_KMEANS_IN_X | 1u << SY_KMEANS_IN_WEIGHTS |
                                   1u << SY_KMEANS_IN_SHIFTS)) {}

  Result<KMeansResult> best_of_runs();

 private:
  Status allocate();
  /// One kmeans.step with centroids_ into out_, previous_ being the hint.
  Status step(bool with_previous, Labels by);
  Status lloyd(int run, int runs);
  /// Keeps labels_, centroids_, counts_ and inertia as the run's result.
  Status keep(int n_iter, bool converged);
  StepArrays arrays() { return out_.arrays(in_.weights.present()); }

  Runner &runner_;
  const Input &in_;
  const KMeansOptions &options_;
  TensorView given_;
  Poller poller_;
  Labels iterate_by_ = options_.int8 ? Labels::int8 : Labels::exact;
  std::unique_ptr<Runner::States> states_;
  Tally tally_;
  StepOutputs out_;
  Tensor previous_, centroids_, next_;
  Run run_;

 public:
  const Tally &tally() const noexcept { return tally_; }
};

Status Fit::allocate() {
  if (auto s = out_.allocate(in_.n(), in_.d(), options_.k); !s) return s;
  auto previous = Tensor::empty(dtypes::i32, std::array{in_.n()});
  if (!previous) return tl::unexpected(previous.error());
  previous_ = std::move(*previous);
  for (Tensor *centroids : {&centroids_, &next_}) {
    auto t = Tensor::empty(dtypes::f32, std::array{options_.k, in_.d()});
    if (!t) return tl::unexpected(t.error());
    *centroids = std::move(*t);
  }
  return {};
}

Status Fit::step(bool with_previous, Labels by) {
  // The one exact step of a fit by codes needs no state.
  Runner::States *states = by == iterate_by_ ? states_.get() : nullptr;
  return run_step(runner_, in_, centroids_, with_previous ? TensorView(previous_) : TensorView(),
                  out_, states, poller_, tally_, by);
}

Status Fit::keep(int n_iter, bool converged) {
  const auto copy = [](const Tensor &from, Tensor &to) -> Status {
    if (!to.present()) {
      auto t = Tensor::empty(from.dtype(), from.shape());
      if (!t) return tl::unexpected(t.error());
      to = std::move(*t);
    }
    std::memcpy(to.data(), from.data(), from.bytes());
    return {};
  };
  if (auto s = copy(out_.labels, run_.labels); !s) return s;
  if (auto s = copy(centroids_, run_.centroids); !s) return s;
  if (auto s = copy(out_.counts, run_.counts); !s) return s;
  run_.inertia = out_.inertia();
  if (options_.closest) {
    auto rows = closest_rows(out_, options_.k);
    if (!rows) return tl::unexpected(rows.error());
    run_.closest = std::move(*rows);
  }
  run_.n_iter = n_iter;
  run_.converged = converged;
  run_.complete = true;
  return {};
}

/// Lloyd's iterations from the seeded centroids. Cancelled: run_ holds the last completed step, if
/// there was one, and the error says so.
Status Fit::lloyd(int run, int runs) {
  run_.complete = false;
  const double share = 1.0 / runs, begin = run * share;
  const double steps = options_.max_iter + 1;
  const double limit = options_.tol * in_.mean_variance;
  bool converged = false, strict = false, have_previous = false;
  int n_iter = 0;
  while (n_iter < options_.max_iter && !converged) {
    poller_.span(begin + share * (n_iter / steps), begin + share * ((n_iter + 1) / steps));
    if (auto s = step(have_previous, iterate_by_); !s) return s;
    // What a cancelled fit returns must be whole: centroids with their own labels.
    if (poller_.active())
      if (auto s = keep(n_iter, false); !s) return s;
    const bool changed = *out_.changed.data<std::int64_t>() != 0;
    const bool relocated = relocate_empty(in_, options_.k, arrays()) > 0;
    const float *old = centroids_.data<float>();
    run_.empty = update_centroids(runner_, in_, options_.k, arrays(), old, next_.data<float>());
    if (options_.spherical) unit_rows(next_.data<float>(), old, options_.k, in_.d());
    ++n_iter;
    strict = have_previous && !changed && !relocated;
    converged =
        strict || (!relocated && options_.tol > 0 &&
                   centroid_shift(runner_, options_.k, in_.d(), next_.data<float>(), old) <= limit);
    std::swap(centroids_, next_);
    // The same labels, hence the same centroids: nothing is left to assign.
    if (strict && iterate_by_ == Labels::exact) break;
    std::swap(out_.labels, previous_);
    have_previous = true;
  }
  if (!strict || iterate_by_ != Labels::exact) {
    poller_.span(begin + share * (options_.max_iter / steps), begin + share);
    if (auto s = step(have_previous, Labels::exact); !s) return s;
  }
  return keep(n_iter, converged);
}

Result<KMeansResult> Fit::best_of_runs() {
  if (auto s = allocate(); !s) return tl::unexpected(s.error());
  const int runs = options_.init == "given" ? 1 : options_.n_init;
  Run best;
  bool cancelled = false;
  for (int r = 0; r < runs && !cancelled; ++r) {
    run_.complete = false;
    poller_.span(static_cast<double>(r) / runs, static_cast<double>(r) / runs);
    auto s = first_centroids(runner_, in_, options_, given_, static_cast<std::uint32_t>(r), poller_,
                             centroids_.data<float>());
    if (s) s = lloyd(r, runs);
    if (!s && s.error().code != ErrorCode::cancelled) return tl::unexpected(s.error());
    cancelled = !s;
    if (run_.complete && (!best.complete || run_.inertia < best.inertia)) std::swap(best, run_);
  }
  if (!best.complete)
    return fail(ErrorCode::cancelled, "k-means was cancelled before its first iteration ended");
  KMeansResult result;
  result.labels = std::move(best.labels);
  result.centroids = std::move(best.centroids);
  result.counts = std::move(best.counts);
  result.closest_rows = std::move(best.closest);
  result.inertia = best.inertia;
  result.n_iter = best.n_iter;
  result.converged = best.converged;
  result.cancelled = cancelled;
  result.empty_clusters = best.empty;
  return result;
}

}  // namespace

Status check_options(const KMeansOptions &o, std::int64_t n) {
  constexpr std::string_view kInits[] = {"k-means++", "k-means||", "random", "given"};
  const auto refuse = [](std::string text) {
    return fail(ErrorCode::invalid_argument, std::move(text));
  };
  if (std::ranges::find(kInits, o.init) == std::end(kInits))
    return refuse(
        fmt::format("init '{}' is not known; it is k-means++, k-means||, random or given{}", o.init,
                    did_you_mean(o.init, kInits)));
  if (o.k < 1 || o.k > INT32_MAX) return refuse(fmt::format("k is {}; it must be at least 1", o.k));
  if (o.k > n)
    return refuse(fmt::format("k is {} but there are only {} rows; k must be at most n", o.k, n));
  if (o.n_init < 1) return refuse(fmt::format("n_init is {}; it must be at least 1", o.n_init));
  if (o.max_iter < 1)
    return refuse(fmt::format("max_iter is {}; it must be at least 1", o.max_iter));
  if (o.batch_size < 0)
    return refuse(fmt::format("batch_size is {}; it must be 0 (none) or more", o.batch_size));
  if (o.batch_size > 0 && (o.n_init != 1 || o.spherical || o.closest))
    return fail(ErrorCode::unsupported,
                "mini-batch k-means offers neither n_init, spherical nor closest");
  if (!(o.tol >= 0) || !std::isfinite(o.tol))
    return refuse(fmt::format("tol is {}; it must be finite and not negative", o.tol));
  return {};
}

Result<KMeansResult> fit(Runner &runner, const TensorView &x, const KMeansOptions &options) {
  const Clock clock;
  if (auto s = check_options(options, x.rank() == 2 && x.dim(0) > 0 ? x.dim(0) : INT64_MAX); !s)
    return tl::unexpected(s.error());
  auto in = make_input(runner, x, options.sample_weight, options.tol > 0, options.spherical);
  if (!in) return tl::unexpected(in.error());
  Tensor owned_centroids;
  TensorView given;
  if (options.init == "given") {
    auto checked =
        check_centroids(options.init_centroids, in->d(), owned_centroids, "initial centroids");
    if (!checked) return tl::unexpected(checked.error());
    if (checked->dim(0) != options.k)
      return fail(ErrorCode::shape, fmt::format("there are {} initial centroids; k is {}",
                                                checked->dim(0), options.k));
    given = *checked;
    if (options.spherical) {
      if (!owned_centroids.present()) {
        auto copy = Tensor::empty(dtypes::f32, given.shape());
        if (!copy) return tl::unexpected(copy.error());
        std::copy_n(given.data<float>(), given.elements(), copy->data<float>());
        owned_centroids = std::move(*copy);
        given = owned_centroids;
      }
      unit_rows(owned_centroids.data<float>(), nullptr, options.k, in->d());
    }
  }
  if (options.batch_size > 0) {
    auto result = mini_batch(runner, *in, options, given);
    if (result) result->info.time_ms = clock.ms();
    return result;
  }
  Fit fit(runner, *in, options, given);
  auto result = fit.best_of_runs();
  if (!result) return result;
  fit.tally().fill(result->info);
  result->info.time_ms = clock.ms();
  return result;
}

Result<Tensor> assign(Runner &runner, const TensorView &x, const TensorView &centroids,
                      RunInfo *info) {
  const Clock clock;
  auto in = make_input(runner, x, {}, false);
  if (!in) return tl::unexpected(in.error());
  Tensor owned;
  auto c = check_centroids(centroids, in->d(), owned, "centroids");
  if (!c) return tl::unexpected(c.error());
  auto labels = Tensor::empty(dtypes::i32, std::array{in->n()});
  if (!labels) return labels;
  CallFrame frame(SY_KMEANS_ASSIGN_INPUTS, SY_KMEANS_ASSIGN_OUTPUTS);
  frame.input(SY_KMEANS_IN_X, in->x);
  frame.input(SY_KMEANS_IN_CENTROIDS, *c);
  frame.output(SY_KMEANS_ASSIGN_OUT_LABELS, *labels);
  sy_kmeans_params params{};
  frame.params(params);
  frame.call().threads = runner.threads();
  Answer answer;
  if (auto s = runner.run(SY_OP_KMEANS_ASSIGN, frame.call(), nullptr, &answer); !s)
    return tl::unexpected(s.error());
  if (info != nullptr) {
    Tally tally;
    tally.add(answer);
    tally.fill(*info);
    info->time_ms = clock.ms();
  }
  return labels;
}

}  // namespace switchyard::kmeans
