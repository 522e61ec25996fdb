// SPDX-License-Identifier: Apache-2.0
#include "compare.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstring>

#include "cancel.hpp"
#include "session.hpp"
#include "text.hpp"

namespace switchyard::cli {
namespace {

constexpr double kEnoughMs = 60;
constexpr int kMostRuns = 5;

/// The best time of a few runs; slow ones run once. `run` returns a Status.
template <class F>
Result<double> best_ms(F run) {
  double best = 0, total = 0;
  for (int i = 0; i < kMostRuns && (i == 0 || total < kEnoughMs); ++i) {
    const auto start = std::chrono::steady_clock::now();
    if (Status ok = run(); !ok) return tl::unexpected(ok.error());
    const double ms =
        std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
    best = i == 0 ? ms : std::min(best, ms);
    total += ms;
    if (cancelled()) return cancelled_error();
  }
  return best;
}

/// The first differing byte of two contiguous arrays, as words; "" if equal.
std::string difference(const char *name, const Tensor &a, const Tensor &b) {
  if (a.present() != b.present()) return fmt::format("{} exists on one side only", name);
  if (!a.present()) return {};
  if (!std::ranges::equal(a.shape(), b.shape()) || !same(a.dtype(), b.dtype()))
    return fmt::format("{} has another shape or dtype", name);
  const auto *pa = a.data<const unsigned char>();
  const auto *pb = b.data<const unsigned char>();
  const std::size_t bytes = static_cast<std::size_t>(a.elements()) * size_of(a.dtype());
  const auto at = std::mismatch(pa, pa + bytes, pb).first - pa;
  if (static_cast<std::size_t>(at) == bytes) return {};
  return fmt::format("{} differs at element {}", name,
                     static_cast<std::size_t>(at) / size_of(a.dtype()));
}

template <class F>
Status timed(double &ms, F run) {
  auto best = best_ms(run);
  if (!best) return tl::unexpected(best.error());
  ms = *best;
  return {};
}

Status time_quantize(Engine &engine, const TensorView &x, QuantizeOptions options,
                     Quantized &result, double &ms) {
  auto first = engine.quantize(x, options);  // decides, and makes the arrays to write to
  if (!first) return tl::unexpected(first.error());
  result = std::move(*first);
  options.codes_out = result.codes;
  options.scales_out = result.scales;
  options.biases_out = result.biases;
  return timed(ms, [&]() -> Status {
    auto again = engine.quantize(x, options);
    if (!again) return tl::unexpected(again.error());
    return {};
  });
}

Status time_dequantize(Engine &engine, const Quantized &q, Tensor &result, double &ms) {
  auto first = engine.dequantize(q);
  if (!first) return tl::unexpected(first.error());
  result = std::move(*first);
  return timed(ms, [&]() -> Status {
    auto again = engine.dequantize(q, result);
    if (!again) return tl::unexpected(again.error());
    return {};
  });
}

Status time_kmeans(Engine &engine, const TensorView &x, const KMeansOptions &options,
                   KMeansResult &result, double &ms) {
  return timed(ms, [&]() -> Status {
    auto fit = engine.kmeans(x, options);
    if (!fit) return tl::unexpected(fit.error());
    if (fit->cancelled) return cancelled_error();
    result = std::move(*fit);
    return {};
  });
}

}  // namespace

Json Comparison::json() const {
  Json doc;
  doc["backend"] = backend;
  doc["sample"] = sample.empty() ? Json(nullptr) : Json(sample);
  doc["own_time_ms"] = own_ms;
  doc["other_time_ms"] = other_ms;
  doc["times_faster"] = factor();
  doc["equal"] = equal;
  doc["difference"] = difference.empty() ? Json(nullptr) : Json(difference);
  return doc;
}

std::string Comparison::text() const {
  return fmt::format("{} as fast as {} ({} against {}{}), {}", times_faster(factor()), backend,
                     duration(own_ms), duration(other_ms), sample.empty() ? "" : ", on " + sample,
                     equal ? "same result" : "DIFFERENT result: " + difference);
}

Result<Engine *> Rivals::get(const std::string &backend) {
  auto &slot = engines_[backend];
  if (slot) return slot.get();
  if (auto ok = check_backend(own_, backend); !ok) return tl::unexpected(ok.error());
  Options options = options_;
  options.pin = {{"*", backend}};
  options.shadow_share = 0;  // whoever asks for rivals compares every answer
  EndAtOnce scope;
  auto engine = Engine::create(std::move(options));
  if (!engine) return tl::unexpected(engine.error());
  slot = std::make_unique<Engine>(std::move(*engine));
  return slot.get();
}

Result<Comparison> compare_quantize(Engine &own, Engine &other, TensorView x,
                                    QuantizeOptions options, std::int64_t limit) {
  Comparison c;
  const std::int64_t all = x.elements();
  if (limit > 0 && all > limit && x.rank() > 0 && x.contiguous()) {
    const std::int64_t columns = x.dim(x.rank() - 1);
    if (x.rank() > 1) {
      const std::int64_t rows = std::max<std::int64_t>(1, limit / columns);
      c.sample = fmt::format("{} of {} rows", rows, all / columns);
      const std::int64_t shape[] = {rows, columns};
      x = TensorView(x.data<const void>(), x.dtype(), shape);
    } else {
      constexpr std::int64_t unit = 256;  // every format's block divides it
      const std::int64_t shape[] = {std::max(unit, limit / unit * unit)};
      if (shape[0] < columns) {
        c.sample = fmt::format("{} of {} values", shape[0], columns);
        x = TensorView(x.data<const void>(), x.dtype(), shape);
      }
    }
  }
  EndAtOnce scope;
  Quantized a, b;
  if (auto ok = time_quantize(own, x, options, a, c.own_ms); !ok) return tl::unexpected(ok.error());
  if (auto ok = time_quantize(other, x, options, b, c.other_ms); !ok)
    return tl::unexpected(ok.error());
  c.difference = difference(a.is_blocks() ? "blocks" : "codes", a.codes, b.codes);
  if (c.difference.empty()) c.difference = difference("scales", a.scales, b.scales);
  if (c.difference.empty()) c.difference = difference("biases", a.biases, b.biases);
  c.equal = c.difference.empty();
  return c;
}

Result<Comparison> compare_dequantize(Engine &own, Engine &other, const Quantized &q) {
  Comparison c;
  EndAtOnce scope;
  Tensor a, b;
  if (auto ok = time_dequantize(own, q, a, c.own_ms); !ok) return tl::unexpected(ok.error());
  if (auto ok = time_dequantize(other, q, b, c.other_ms); !ok) return tl::unexpected(ok.error());
  c.difference = difference("values", a, b);
  c.equal = c.difference.empty();
  return c;
}

Result<Comparison> compare_kmeans(Engine &own, Engine &other, TensorView x, KMeansOptions options,
                                  std::int64_t limit) {
  Comparison c;
  const std::int64_t n = x.dim(0), d = x.dim(1);
  const std::int64_t rows =
      std::max({std::int64_t{1}, limit / std::max<std::int64_t>(1, d), options.k});
  if (limit > 0 && rows < n) {
    // Rows spread over the data look like all of it; weights must stay next to their rows.
    const std::int64_t step = options.sample_weight.present() ? 1 : n / rows;
    c.sample = step > 1 ? fmt::format("{} of {} rows, every {}th", rows, n, step)
                        : fmt::format("the first {} of {} rows", rows, n);
    const std::int64_t shape[] = {rows, d}, strides[] = {x.stride(0) * step, x.stride(1)};
    x = TensorView(x.data(), x.dtype(), shape, strides);
    if (options.sample_weight.present()) {
      const std::int64_t weights[] = {rows};
      options.sample_weight = TensorView(options.sample_weight.data<const void>(),
                                         options.sample_weight.dtype(), weights);
    }
  }
  KMeansResult a, b;
  options.progress = progress_bar("comparing");
  if (auto ok = time_kmeans(own, x, options, a, c.own_ms); !ok) return tl::unexpected(ok.error());
  if (auto ok = time_kmeans(other, x, options, b, c.other_ms); !ok)
    return tl::unexpected(ok.error());
  clear_status();
  c.difference = difference("labels", a.labels, b.labels);
  if (c.difference.empty()) c.difference = difference("centroids", a.centroids, b.centroids);
  if (c.difference.empty()) c.difference = difference("counts", a.counts, b.counts);
  if (c.difference.empty() && a.inertia != b.inertia)
    c.difference = fmt::format("inertia {} against {}", a.inertia, b.inertia);
  if (c.difference.empty() && a.n_iter != b.n_iter)
    c.difference = fmt::format("{} iterations against {}", a.n_iter, b.n_iter);
  c.equal = c.difference.empty();
  return c;
}

void add_comparison(Json &doc, const std::optional<Comparison> &comparison) {
  doc["compared"] = comparison ? comparison->json() : Json(nullptr);
}

}  // namespace switchyard::cli
