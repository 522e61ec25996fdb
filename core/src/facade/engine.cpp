// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <stdexcept>

#include "attention/attention.hpp"
#include "base/status_codes.hpp"
#include "facade/engine_impl.hpp"
#include "facade/guarded.hpp"
#include "host/host.hpp"
#include "host/log.hpp"
#include "kmeans/fit.hpp"
#include "kmeans/stream.hpp"
#include "kmeans/uses.hpp"
#include "machine/machine.hpp"
#include "quantize/quantize.hpp"

namespace switchyard {

std::string_view version() noexcept { return SWITCHYARD_VERSION; }

Engine::Engine(Options options) {
  auto made = create(std::move(options));
  if (!made) throw std::runtime_error(made.error().text());
  impl_ = std::move(made->impl_);
}

Engine::Engine(std::unique_ptr<Impl> impl) noexcept : impl_(std::move(impl)) {}
Engine::Engine(Engine &&) noexcept = default;
Engine &Engine::operator=(Engine &&) noexcept = default;
Engine::~Engine() = default;

Result<Engine> Engine::create(Options options) {
  return guarded([&]() -> Result<Engine> { return assemble(std::move(options)); });
}

Result<Engine> Engine::assemble(Options options) {
  auto resolved = resolve_options(std::move(options));
  if (!resolved) return tl::unexpected(resolved.error());
  auto impl = std::make_unique<Impl>();
  impl->options = std::move(*resolved);
  const bool quiet = impl->options.log_level != "debug";
  if (const auto ok =
          set_log_level(impl->options.verbose && quiet ? "info" : impl->options.log_level);
      !ok)
    return tl::unexpected(ok.error());
  const Machine &here = machine();
  impl->threads = static_cast<std::uint32_t>(impl->options.threads > 0 ? impl->options.threads
                                                                       : here.thread_budget);
  std::string cache = resolve_cache_dir(impl->options.cache_dir);
  if (!cache.empty()) cache += "/" + here.fingerprint;
  const auto place = [&](const char *name) {
    return cache.empty() ? std::string() : cache + "/" + name;
  };
  impl->store = std::make_unique<VerdictStore>(place("verdicts"));
  impl->timings = std::make_unique<TimingStore>(place("timings"));
  if (impl->options.policy == Policy::frozen && !impl->options.lock_file.empty()) {
    auto lock = LockFile::load(impl->options.lock_file);
    if (!lock) return tl::unexpected(lock.error());
    impl->lock = std::move(*lock);
  }
  auto registry = Registry::load(impl->options, *impl->store, impl->threads);
  if (!registry) return tl::unexpected(registry.error());
  impl->registry = std::move(*registry);
  impl->verdicts =
      std::make_unique<VerdictBook>(impl->options, *impl->registry, *impl->store, impl->threads);
  impl->dispatcher =
      std::make_unique<Dispatcher>(impl->options, *impl->registry, *impl->verdicts, *impl->timings,
                                   impl->lock ? &*impl->lock : nullptr, impl->threads);
  impl->results = std::make_unique<ResultCache>(impl->options.result_cache);
  return Engine(std::move(impl));
}

namespace {

/// The pin for RunInfo, the log for people.
void finish(const Engine::Impl &impl, std::string_view op, RunInfo &info) {
  info.requested_backend = impl.requested(op);
  if (!impl.options.verbose) return;
  log(SY_LOG_INFO,
      fmt::format("{}: {}{} in {:.4g} ms{}", op, info.kernel, info.reused ? " earlier, reused" : "",
                  info.time_ms,
                  info.fallback_reason.empty() ? "" : "; fell back: " + info.fallback_reason));
}

/// Through the result cache where that is on and the caller gave no arrays to write to. `describe`
/// adds to the key what the result depends on.
template <class R, class Describe, class Compute>
Result<R> remembered(Engine::Impl &impl, std::string_view op, bool own_outputs, bool &reused,
                     const Describe &describe, const Compute &compute) {
  reused = false;
  return guarded([&]() -> Result<R> {
    if (!impl.results->enabled() || own_outputs) return compute();
    ContentKey key(op);
    describe(key);
    return through_cache<R>(*impl.results, key.value(), reused, compute);
  });
}

/// The time that finding and copying took, where a result is reused.
class Stopwatch {
 public:
  double ms() const { return static_cast<double>(now_ns() - start_) / 1e6; }

 private:
  std::uint64_t start_ = now_ns();
};

void mark_reused(RunInfo &info, const Stopwatch &watch) {
  info.reused = true;
  info.time_ms = watch.ms();
}

}  // namespace

Result<Quantized> Engine::quantize(TensorView x, const QuantizeOptions &o) {
  const Stopwatch watch;
  bool reused = false;
  auto result = remembered<Quantized>(
      *impl_, SY_OP_QUANTIZE,
      o.codes_out.present() || o.scales_out.present() || o.biases_out.present(), reused,
      [&](ContentKey &key) {
        key.add(o.format).add(o.group_size).add(o.granularity).add(o.scale).add(o.nonfinite);
        key.add(o.rounding).add(o.seed).add(x);
      },
      [&] { return switchyard::quantize(*impl_->dispatcher, x, o); });
  if (!result) return result;
  if (reused) mark_reused(result->info, watch);
  finish(*impl_, SY_OP_QUANTIZE, result->info);
  return result;
}

Result<Tensor> Engine::dequantize(const Quantized &q, TensorView out, RunInfo *info) {
  const Stopwatch watch;
  bool reused = false;
  RunInfo own;
  auto result = remembered<Tensor>(
      *impl_, SY_OP_DEQUANTIZE, out.present(), reused,
      [&](ContentKey &key) {
        key.add(q.format).add(q.group_size).add(q.granularity).add(to_string(q.dtype));
        for (const std::int64_t n : q.shape) key.add(n);
        key.add(q.codes.view()).add(q.scales.view()).add(q.biases.view());
      },
      [&] { return switchyard::dequantize(*impl_->dispatcher, q, out, &own); });
  if (!result) return result;
  if (reused) mark_reused(own, watch);
  finish(*impl_, SY_OP_DEQUANTIZE, own);
  if (info != nullptr) *info = std::move(own);
  return result;
}

Result<KMeansResult> Engine::kmeans(TensorView x, const KMeansOptions &o) {
  const Stopwatch watch;
  bool reused = false;
  auto result = remembered<KMeansResult>(
      *impl_, SY_OP_KMEANS_STEP, false, reused,
      [&](ContentKey &key) {
        key.add(o.k).add(o.init).add(o.init_centroids).add(o.n_init).add(o.max_iter).add(o.tol);
        key.add(o.seed).add(o.sample_weight).add(o.int8).add(o.spherical).add(o.closest);
        key.add(o.batch_size).add(x);
      },
      [&] { return kmeans::fit(*impl_->dispatcher, x, o); });
  if (!result) return result;
  if (reused) mark_reused(result->info, watch);
  finish(*impl_, SY_OP_KMEANS_STEP, result->info);
  return result;
}

Result<Tensor> Engine::kmeans_assign(TensorView x, TensorView centroids, RunInfo *info) {
  const Stopwatch watch;
  bool reused = false;
  RunInfo own;
  auto result = remembered<Tensor>(
      *impl_, SY_OP_KMEANS_ASSIGN, false, reused,
      [&](ContentKey &key) { key.add(centroids).add(x); },
      [&] { return kmeans::assign(*impl_->dispatcher, x, centroids, &own); });
  if (!result) return result;
  if (reused) mark_reused(own, watch);
  finish(*impl_, SY_OP_KMEANS_ASSIGN, own);
  if (info != nullptr) *info = std::move(own);
  return result;
}

Result<KMeansResult> Engine::kmeans_file(const std::string &path, const KMeansOptions &options,
                                         const std::string &labels, std::uint64_t memory) {
  auto result = kmeans::fit_file(*impl_->dispatcher, path, options, labels, memory);
  if (result) result->info.requested_backend = impl_->requested(SY_OP_KMEANS_STEP);
  return result;
}

Result<double> Engine::kmeans_assign_file(const std::string &path, TensorView centroids,
                                          const std::string &labels, const Progress &progress,
                                          std::uint64_t memory) {
  return kmeans::assign_file(*impl_->dispatcher, path, centroids, labels, progress, memory);
}

Result<Tensor> Engine::kmeans_transform(TensorView x, TensorView centroids, RunInfo *info) {
  auto result = kmeans::transform(*impl_->dispatcher, x, centroids, info);
  if (result && info != nullptr) info->requested_backend = impl_->requested(SY_OP_KMEANS_ASSIGN);
  return result;
}

Result<ProductResult> Engine::kmeans_product(TensorView x, std::int64_t groups,
                                             const KMeansOptions &options) {
  auto result = kmeans::product(*impl_->dispatcher, x, groups, options);
  if (result) result->info.requested_backend = impl_->requested(SY_OP_KMEANS_STEP);
  return result;
}

Result<SweepResult> Engine::kmeans_sweep(TensorView x, const std::vector<std::int64_t> &ks,
                                         const KMeansOptions &options, std::int64_t sample) {
  return kmeans::sweep(*impl_->dispatcher, x, ks, options, sample);
}

Result<AttentionResult> Engine::attention(TensorView q, TensorView k, TensorView v,
                                          const AttentionOptions &o) {
  const Stopwatch watch;
  bool reused = false;
  auto result = remembered<AttentionResult>(
      *impl_, SY_OP_ATTENTION, o.out.present(), reused,
      [&](ContentKey &key) {
        key.add(o.causal).add(o.window.has_value()).add(o.window.value_or(0)).add(o.window_left);
        key.add(o.window_right).add(o.softcap).add(o.scale).add(o.return_lse);
        key.add(o.mask).add(o.sinks).add(q).add(k).add(v);
      },
      [&] { return switchyard::attention(*impl_->dispatcher, q, k, v, o); });
  if (!result) return result;
  if (reused) mark_reused(result->info, watch);
  finish(*impl_, SY_OP_ATTENTION, result->info);
  return result;
}

std::int32_t Engine::run(std::string_view op, sy_call &call, sy_error *error,
                         RunInfo *info) noexcept {
  OpIndex index = 0;
  const auto ops = all_ops();
  while (index < ops.size() && ops[index]->id() != op) ++index;
  if (index == ops.size()) {
    to_abi(find_op(op).error(), error);
    return SY_E_INVALID_ARGUMENT;
  }
  if (info == nullptr) return impl_->dispatcher->route(index, call, nullptr, error, nullptr);
  Answer answer;
  const std::uint64_t start = now_ns();
  const std::int32_t status = impl_->dispatcher->route(index, call, nullptr, error, &answer);
  info->time_ms = static_cast<double>(now_ns() - start) / 1e6;
  info->backend = answer.backend;
  info->kernel = answer.kernel;
  info->verified = answer.verified;
  info->fallback_reason = answer.fallback_reason;
  info->requested_backend = impl_->requested(op);
  return status;
}

std::vector<PluginInfo> Engine::plugins() const {
  std::vector<PluginInfo> out = impl_->registry->plugins();
  for (PluginInfo &p : out)
    if (!p.content_hash.empty()) p.quarantined = impl_->store->quarantined(p.content_hash);
  return out;
}
std::vector<std::string> Engine::search_log() const { return impl_->registry->search_log(); }
const Options &Engine::options() const noexcept { return impl_->options; }
int Engine::threads() const noexcept { return static_cast<int>(impl_->threads); }

}  // namespace switchyard
