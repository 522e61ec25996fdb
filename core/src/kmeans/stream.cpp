// SPDX-License-Identifier: Apache-2.0
/// Lloyd's iterations over the pieces of a file. Sums are integers and inertia partials whole
/// blocks, so pieces add up to the bits of one step over everything.
#include "kmeans/stream.hpp"

#include <fmt/format.h>
#include <switchyard/ops/kmeans.h>
#include <switchyard/ops/kmeans_exact.h>

#include <algorithm>

#include "base/checked.hpp"
#include "kmeans/fit.hpp"
#include "kmeans/init.hpp"
#include "kmeans/pieces.hpp"
#include "kmeans/step.hpp"

namespace switchyard::kmeans {
namespace {

constexpr std::uint32_t kSampleRun = 0x40000001;  // draws that no fit uses

/// The rows with the largest distances: relocation looks at no more than 2 k of them, because each
/// cluster refuses at most one row, its last.
class Farthest {
 public:
  Farthest(std::int64_t most, std::int64_t d) : most_(static_cast<std::size_t>(most)), d_(d) {}

  void clear() { rows_.clear(); }
  void add(const TensorView &x, std::int64_t first, const StepOutputs &out) {
    const auto *distances = out.distances.data<float>();
    const auto *labels = out.labels.data<std::int32_t>();
    for (std::int64_t i = 0; i < x.dim(0); ++i) {
      if (!(distances[i] > 0)) continue;
      // Later rows lose ties against those that are there.
      if (rows_.size() == most_ && !(distances[i] > rows_.front().distance)) continue;
      if (rows_.size() == most_) {
        std::ranges::pop_heap(rows_, nearer);
        rows_.pop_back();
      }
      const float *row = x.data<float>() + i * d_;
      rows_.push_back({distances[i], first + i, labels[i], std::vector<float>(row, row + d_)});
      std::ranges::push_heap(rows_, nearer);
    }
  }
  /// relocate_empty among these; the new labels go to the file. Returns how many rows moved.
  Result<std::int64_t> relocate(const Input &like, std::int64_t k, StepArrays sums,
                                LabelFile &file) {
    if (std::find(sums.counts, sums.counts + k, 0) == sums.counts + k) return 0;
    std::ranges::sort(rows_, {}, &Row::index);
    std::vector<std::int32_t> labels;
    std::vector<float> distances, values;
    for (const Row &r : rows_) {
      labels.push_back(r.label);
      distances.push_back(r.distance);
      values.insert(values.end(), r.values.begin(), r.values.end());
    }
    if (rows_.empty()) return 0;
    Input in;
    in.x = TensorView(values.data(), {static_cast<std::int64_t>(rows_.size()), d_});
    auto shifts = Tensor::empty(dtypes::i32, std::array{d_});
    if (!shifts) return tl::unexpected(shifts.error());
    std::copy_n(like.shifts.data<std::int32_t>(), d_, shifts->data<std::int32_t>());
    in.shifts = std::move(*shifts);
    sums.labels = labels.data();
    sums.distances = distances.data();
    const std::int64_t moved = relocate_empty(in, k, sums);
    for (std::size_t r = 0; r < rows_.size(); ++r)
      if (labels[r] != rows_[r].label)
        if (auto s = file.write(rows_[r].index, {&labels[r], 1}); !s)
          return tl::unexpected(s.error());
    return moved;
  }

 private:
  struct Row {
    float distance;
    std::int64_t index;
    std::int32_t label;
    std::vector<float> values;
  };
  /// Heap order: the row to drop first on top: nearest, then highest number.
  static bool nearer(const Row &a, const Row &b) {
    return a.distance != b.distance ? a.distance > b.distance : a.index < b.index;
  }
  std::size_t most_;
  std::int64_t d_;
  std::vector<Row> rows_;
};

class FileFit {
 public:
  FileFit(Runner &runner, Pieces pieces, LabelFile labels, const KMeansOptions &options)
      : runner_(runner),
        pieces_(std::move(pieces)),
        previous_(std::move(labels)),
        options_(options),
        poller_(options.progress),
        far_(2 * options.k, pieces_.d()) {}

  Result<KMeansResult> run(std::uint64_t memory);
  Status write_labels(const std::string &path);

 private:
  Status scan();
  Result<Tensor> start(std::uint64_t memory);
  /// One pass; `first` has no labels to compare with.
  Status pass(const Tensor &centroids, bool first, double begin, double share, Labels by);
  Status pass_piece(const TensorView &x, std::int64_t at, const Tensor &centroids, bool first,
                    Labels by);

  Runner &runner_;
  Pieces pieces_;
  LabelFile previous_;
  const KMeansOptions &options_;
  Poller poller_;
  Tally tally_;
  Farthest far_;
  Input part_;  // shifts, and the piece at hand
  StepOutputs out_, all_;
  double inertia_ = 0;
  std::int64_t changed_ = 0;
};

/// Finite? Shifts and the mean variance, as make_input finds them.
Status FileFit::scan() {
  const auto d = static_cast<std::size_t>(pieces_.d());
  const auto n = static_cast<double>(pieces_.n());
  std::vector<double> mean(d), squares(d);
  for (int round = 0; round < (options_.tol > 0 ? 2 : 1); ++round) {
    for (std::int64_t p = 0; p < pieces_.count(); ++p) {
      if (poller_.stop(0)) return fail(ErrorCode::cancelled, "k-means was cancelled");
      auto x = pieces_.piece(p);
      if (!x) return tl::unexpected(x.error());
      part_.x = *x;
      if (round == 0) {
        if (auto s = check_finite(runner_, *x, "x", &part_.maxima, p * pieces_.rows()); !s)
          return s;
        if (options_.tol > 0) add_column_sums(runner_, part_, nullptr, mean);
      } else {
        add_column_sums(runner_, part_, &mean, squares);
      }
    }
    if (round == 0)
      for (double &v : mean) v /= n;
  }
  double total = 0;
  for (double v : squares) total += v / n;
  part_.mean_variance = total / static_cast<double>(d);
  part_.largest = static_cast<float>(std::ranges::max(part_.maxima));
  auto shifts = Tensor::empty(dtypes::i32, std::array{pieces_.d()});
  if (!shifts) return tl::unexpected(shifts.error());
  for (std::size_t m = 0; m < d; ++m)
    shifts->data<std::int32_t>()[m] = sy_kmeans_shift(part_.maxima[m], pieces_.n());
  part_.shifts = std::move(*shifts);
  return {};
}

Result<Tensor> FileFit::start(std::uint64_t memory) {
  const std::int64_t n = pieces_.n(), d = pieces_.d(), k = options_.k;
  if (options_.init == "random") return pieces_.gather(random_numbers(n, k, options_.seed, 0));
  auto centroids = Tensor::empty(dtypes::f32, std::array{k, d});
  if (!centroids) return centroids;
  if (options_.init == "given") {
    Tensor owned;
    auto given = check_centroids(options_.init_centroids, d, owned, "initial centroids");
    if (!given) return tl::unexpected(given.error());
    if (given->dim(0) != k)
      return fail(ErrorCode::shape,
                  fmt::format("there are {} initial centroids; k is {}", given->dim(0), k));
    std::copy_n(given->data<float>(), given->elements(), centroids->data<float>());
    return centroids;
  }
  // As many rows as fit; all of them if they do.
  const auto fit = static_cast<std::int64_t>(memory / (8 * static_cast<std::uint64_t>(d) + 32));
  std::vector<std::int64_t> rows;
  if (const std::int64_t most = std::max(k, fit); most < n) {
    rows = random_numbers(n, most, options_.seed, kSampleRun);
    std::ranges::sort(rows);
  } else {
    for (std::int64_t i = 0; i < n; ++i) rows.push_back(i);
  }
  auto sample = pieces_.gather(rows);
  if (!sample) return sample;
  auto in = make_input(runner_, *sample, {}, false);
  if (!in) return tl::unexpected(in.error());
  if (auto s = first_centroids(runner_, *in, options_, {}, 0, poller_, centroids->data<float>());
      !s)
    return tl::unexpected(s.error());
  return centroids;
}

Status FileFit::pass_piece(const TensorView &x, std::int64_t at, const Tensor &centroids,
                           bool first, Labels by) {
  part_.x = x;
  if (!out_.labels.present() || out_.labels.elements() != x.dim(0))
    if (auto s = out_.allocate(x.dim(0), pieces_.d(), options_.k); !s) return s;
  Tensor before;
  if (!first) {
    auto labels = Tensor::empty(dtypes::i32, std::array{x.dim(0)});
    if (!labels) return tl::unexpected(labels.error());
    before = std::move(*labels);
    if (auto s =
            previous_.read(at, {before.data<std::int32_t>(), static_cast<std::size_t>(x.dim(0))});
        !s)
      return s;
  }
  if (auto s = run_step(runner_, part_, centroids, first ? TensorView() : TensorView(before), out_,
                        nullptr, poller_, tally_, by);
      !s)
    return s;
  for (auto [to, from] : {std::pair(&all_.sums, &out_.sums), std::pair(&all_.counts, &out_.counts)})
    for (std::int64_t c = 0; c < to->elements(); ++c)
      to->data<std::int64_t>()[c] += from->data<std::int64_t>()[c];
  for (std::int64_t b = 0; b < out_.partials.elements(); ++b)
    inertia_ += out_.partials.data<double>()[b];
  changed_ += *out_.changed.data<std::int64_t>();
  far_.add(x, at, out_);
  return previous_.write(at,
                         {out_.labels.data<std::int32_t>(), static_cast<std::size_t>(x.dim(0))});
}

Status FileFit::pass(const Tensor &centroids, bool first, double begin, double share, Labels by) {
  for (Tensor *t : {&all_.sums, &all_.counts})
    std::fill_n(t->data<std::int64_t>(), t->elements(), 0);
  inertia_ = 0;
  changed_ = 0;
  far_.clear();
  const auto count = static_cast<double>(pieces_.count());
  for (std::int64_t p = 0; p < pieces_.count(); ++p) {
    auto x = pieces_.piece(p);
    if (!x) return tl::unexpected(x.error());
    const auto done = static_cast<double>(p);
    poller_.span(begin + share * done / count, begin + share * (done + 1) / count);
    if (auto s = pass_piece(*x, p * pieces_.rows(), centroids, first, by); !s) return s;
  }
  return {};
}

Result<KMeansResult> FileFit::run(std::uint64_t memory) {
  const std::int64_t d = pieces_.d(), k = options_.k;
  poller_.span(0, 0);
  if (auto s = scan(); !s) return tl::unexpected(s.error());
  auto centroids = start(memory);
  if (!centroids) return tl::unexpected(centroids.error());
  auto next = Tensor::empty(dtypes::f32, std::array{k, d});
  if (!next) return tl::unexpected(next.error());
  if (auto s = all_.allocate(1, d, k); !s) return tl::unexpected(s.error());
  KMeansResult result;
  const double share = 1.0 / (options_.max_iter + 1);
  bool strict = false;
  const Labels by = options_.int8 ? Labels::int8 : Labels::exact;
  while (result.n_iter < options_.max_iter && !result.converged) {
    const bool first = result.n_iter == 0;
    if (auto s = pass(*centroids, first, result.n_iter * share, share, by); !s)
      return tl::unexpected(s.error());
    auto moved = far_.relocate(part_, k, all_.arrays(false), previous_);
    if (!moved) return tl::unexpected(moved.error());
    const float *old = centroids->data<float>();
    result.empty_clusters =
        update_centroids(runner_, part_, k, all_.arrays(false), old, next->data<float>());
    ++result.n_iter;
    strict = !first && changed_ == 0 && *moved == 0;
    result.converged = strict || (*moved == 0 && options_.tol > 0 &&
                                  centroid_shift(runner_, k, d, next->data<float>(), old) <=
                                      options_.tol * part_.mean_variance);
    std::swap(*centroids, *next);
    if (strict && by == Labels::exact) break;
  }
  if (!strict || by != Labels::exact)
    if (auto s = pass(*centroids, false, 1 - share, share, Labels::exact); !s)
      return tl::unexpected(s.error());
  result.inertia = inertia_;
  result.counts = std::move(all_.counts);
  result.centroids = std::move(*centroids);
  tally_.fill(result.info);
  return result;
}

/// Copies labels, a block at a time, into a .npy file.
Status write_npy_labels(const std::string &path, std::int64_t n, std::int64_t block,
                        const std::function<Result<TensorView>(std::int64_t)> &labels) {
  auto header = npy_header(dtypes::i32, std::array{n});
  if (!header) return tl::unexpected(header.error());
  auto file = AtomicFile::create(path);
  if (!file) return tl::unexpected(file.error());
  if (auto s = file->append(std::string_view(*header)); !s) return s;
  for (std::int64_t at = 0; at < n; at += block) {
    auto part = labels(at);
    if (!part) return tl::unexpected(part.error());
    const std::span bytes(part->data<std::byte>(), static_cast<std::size_t>(part->elements()) * 4);
    if (auto s = file->append(bytes); !s) return s;
  }
  return file->commit();
}

Status FileFit::write_labels(const std::string &path) {
  std::vector<std::int32_t> labels;
  return write_npy_labels(
      path, pieces_.n(), pieces_.rows(), [&](std::int64_t at) -> Result<TensorView> {
        const std::int64_t count = std::min(pieces_.rows(), pieces_.n() - at);
        labels.resize(static_cast<std::size_t>(count));
        if (auto s = previous_.read(at, labels); !s) return tl::unexpected(s.error());
        return TensorView(static_cast<void *>(labels.data()), dtypes::i32, std::array{count});
      });
}

}  // namespace

Result<KMeansResult> fit_file(Runner &runner, const std::string &path, const KMeansOptions &options,
                              const std::string &labels, std::uint64_t memory) {
  const Clock clock;
  if (options.sample_weight.present() || options.n_init != 1 || options.batch_size != 0 ||
      options.spherical || options.closest)
    return fail(ErrorCode::unsupported,
                "k-means over a file offers no weights, n_init, batches, spherical or closest");
  auto pieces = Pieces::open(path, memory / 2);
  if (!pieces) return tl::unexpected(pieces.error());
  if (auto s = check_options(options, pieces->n()); !s) return tl::unexpected(s.error());
  auto previous = LabelFile::create();
  if (!previous) return tl::unexpected(previous.error());
  FileFit fit(runner, std::move(*pieces), std::move(*previous), options);
  auto result = fit.run(memory / 2);
  if (!result) return result;
  if (!labels.empty())
    if (auto s = fit.write_labels(labels); !s) return tl::unexpected(s.error());
  result->info.time_ms = clock.ms();
  return result;
}

Result<double> assign_file(Runner &runner, const std::string &path, const TensorView &centroids,
                           const std::string &labels, const Progress &progress,
                           std::uint64_t memory) {
  auto pieces = Pieces::open(path, memory);
  if (!pieces) return tl::unexpected(pieces.error());
  Tensor owned;
  auto c = check_centroids(centroids, pieces->d(), owned, "centroids");
  if (!c) return tl::unexpected(c.error());
  Poller poller(progress);
  const std::int64_t rows = std::min(pieces->rows(), pieces->n());
  auto part = Tensor::empty(dtypes::i32, std::array{rows});
  auto partials = Tensor::empty(dtypes::f64, std::array{ceil_div(rows, SY_KMEANS_INERTIA_BLOCK)});
  if (!part) return tl::unexpected(part.error());
  if (!partials) return tl::unexpected(partials.error());
  double inertia = 0;
  const auto n = static_cast<double>(pieces->n());
  const auto piece = [&](std::int64_t at) -> Result<TensorView> {
    auto x = pieces->range(at, pieces->rows());
    if (!x) return x;
    if (auto s = check_finite(runner, *x, "x", nullptr, at); !s) return tl::unexpected(s.error());
    poller.span(static_cast<double>(at) / n, static_cast<double>(at + x->dim(0)) / n);
    const TensorView out(part->data(), dtypes::i32, std::array{x->dim(0)});
    const TensorView blocks(partials->data(), dtypes::f64,
                            std::array{ceil_div(x->dim(0), SY_KMEANS_INERTIA_BLOCK)});
    CallFrame frame(SY_KMEANS_ASSIGN_INPUTS, SY_KMEANS_ASSIGN_OUTPUTS);
    frame.input(SY_KMEANS_IN_X, *x);
    frame.input(SY_KMEANS_IN_CENTROIDS, *c);
    frame.output(SY_KMEANS_ASSIGN_OUT_LABELS, out);
    frame.output(SY_KMEANS_ASSIGN_OUT_INERTIA_PARTIALS, blocks);
    sy_kmeans_params params{};
    frame.params(params);
    frame.call().threads = runner.threads();
    poller.watch(frame.call());
    if (auto s = runner.run(SY_OP_KMEANS_ASSIGN, frame.call(), nullptr, nullptr); !s)
      return tl::unexpected(s.error());
    for (std::int64_t b = 0; b < blocks.elements(); ++b) inertia += blocks.data<double>()[b];
    return out;
  };
  if (auto s = write_npy_labels(labels, pieces->n(), pieces->rows(), piece); !s)
    return tl::unexpected(s.error());
  return inertia;
}

}  // namespace switchyard::kmeans
