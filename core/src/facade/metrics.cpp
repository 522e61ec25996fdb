// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "facade/engine_impl.hpp"
#include "machine/limits.hpp"
#include "machine/machine.hpp"

namespace switchyard {
namespace {

using Buckets = std::array<std::uint64_t, TimeHistogram::kBuckets>;

/// Sums of kernels that belong together.
struct Sum {
  BackendMetrics metrics;
  double timed_ms = 0;
  Buckets buckets{};

  void add(const KernelStats &s) {
    metrics.count += s.count.load(std::memory_order_relaxed);
    metrics.timed_count += s.timed_count.load(std::memory_order_relaxed);
    metrics.fallbacks += s.fallbacks.load(std::memory_order_relaxed);
    metrics.bytes += static_cast<double>(s.bytes.load(std::memory_order_relaxed));
    metrics.flops += static_cast<double>(s.flops.load(std::memory_order_relaxed));
    timed_ms += static_cast<double>(s.timed_ns.load(std::memory_order_relaxed)) / 1e6;
    s.histogram.copy_into(buckets);
  }
  BackendMetrics finish() const {
    BackendMetrics m = metrics;
    if (m.timed_count > 0) {
      m.mean_ms = timed_ms / static_cast<double>(m.timed_count);
      // Short calls are timed 1 in 64: the total is the mean times the exact count.
      m.total_ms = m.mean_ms * static_cast<double>(m.count);
    }
    m.p50_ms = TimeHistogram::quantile_of(buckets, 0.50) / 1e6;
    m.p95_ms = TimeHistogram::quantile_of(buckets, 0.95) / 1e6;
    return m;
  }
};

/// What the instances say of their devices.
std::map<std::string, DeviceMetrics> device_metrics(const Registry &registry) {
  std::map<std::string, DeviceMetrics> out;
  for (const auto &c : registry.all()) {
    if (c->memory == nullptr || out.contains(c->backend)) continue;
    sy_device_totals totals{};
    totals.struct_size = sizeof(totals);
    c->memory->totals(c->instance.get(), &totals);
    out[c->backend] = {totals.kernels,
                       static_cast<double>(totals.kernel_ns) / 1e6,
                       static_cast<double>(totals.transfer_ns) / 1e6,
                       totals.bytes_to_device,
                       totals.bytes_from_device,
                       totals.programs_built,
                       totals.programs_cached,
                       static_cast<double>(totals.build_ns) / 1e6};
  }
  std::erase_if(out, [](const auto &entry) { return entry.second.kernels == 0; });
  return out;
}

/// A kernel's sizes, appended to those of the op's other kernels of that backend.
void add_sizes(const KernelStats &s, const MachineLimits *limits, int threads,
               std::vector<SizeMetrics> &out) {
  for (const SizeStats &size : s.sizes) {
    const auto count = size.count.load(std::memory_order_relaxed);
    const auto ns = static_cast<double>(size.ns.load(std::memory_order_relaxed));
    if (count == 0 || ns <= 0) continue;
    const auto calls = static_cast<double>(count);
    SizeMetrics m;
    m.timed_count = count;
    m.bytes = static_cast<double>(size.bytes.load(std::memory_order_relaxed)) / calls;
    m.flops = static_cast<double>(size.flops.load(std::memory_order_relaxed)) / calls;
    m.mean_ms = ns / calls / 1e6;
    m.gb_per_s = m.bytes * calls / ns;
    m.gflop_per_s = m.flops * calls / ns;
    m.threads = threads;
    if (limits != nullptr) {
      const Bottleneck b = find_bottleneck(*limits, m.bytes, m.flops, m.mean_ms / 1e3, threads);
      m.bound = b.bound;
      m.level = b.level;
      m.memory_share = b.memory_share;
      m.compute_share = b.compute_share;
      m.text = b.text();
    }
    out.push_back(std::move(m));
  }
}

/// How many threads a kernel's calls may have used.
int threads_of(const Candidate &c, std::uint32_t budget) {
  return (c.kernel->traits & SY_TRAIT_OWN_THREADS) != 0 ? static_cast<int>(budget) : 1;
}

nlohmann::ordered_json to_json(const SizeMetrics &m) {
  return {{"timed_count", m.timed_count},
          {"bytes", m.bytes},
          {"flops", m.flops},
          {"avg_time_ms", m.mean_ms},
          {"gb_per_s", m.gb_per_s},
          {"gflop_per_s", m.gflop_per_s},
          {"threads", m.threads},
          {"bound", m.bound},
          {"level", m.level},
          {"memory_share", m.memory_share},
          {"compute_share", m.compute_share},
          {"text", m.text}};
}

nlohmann::ordered_json to_json(const DeviceMetrics &m) {
  return {{"kernels", m.kernels},
          {"kernel_ms", m.kernel_ms},
          {"transfer_ms", m.transfer_ms},
          {"bytes_to_device", m.bytes_to_device},
          {"bytes_from_device", m.bytes_from_device},
          {"programs_built", m.programs_built},
          {"programs_cached", m.programs_cached},
          {"build_ms", m.build_ms}};
}

nlohmann::ordered_json to_json(const BackendMetrics &m) {
  nlohmann::ordered_json doc{
      {"count", m.count},   {"avg_time_ms", m.mean_ms}, {"total_time_ms", m.total_ms},
      {"p50_ms", m.p50_ms}, {"p95_ms", m.p95_ms},       {"timed_count", m.timed_count},
      {"bytes", m.bytes},   {"flops", m.flops},         {"fallbacks", m.fallbacks}};
  if (!m.sizes.empty()) doc["sizes"] = nlohmann::ordered_json::array();
  for (const SizeMetrics &size : m.sizes) doc["sizes"].push_back(to_json(size));
  return doc;
}

}  // namespace

Metrics Engine::metrics() const {
  std::map<std::string, Sum> backends;
  std::map<std::string, std::map<std::string, Sum>> by_op;
  std::map<std::string, std::map<std::string, std::vector<SizeMetrics>>> sizes;
  Metrics out;
  const auto limits = impl_->limits();
  out.limits = limits ? "measured on this machine" : limits.error().text();
  for (const auto &c : impl_->registry->all()) {
    const KernelStats &s = c->stats;
    if (s.count.load(std::memory_order_relaxed) == 0 &&
        s.fallbacks.load(std::memory_order_relaxed) == 0)
      continue;
    backends[c->backend].add(s);
    const std::string op(all_ops()[c->op]->id());
    by_op[op][c->backend].add(s);
    add_sizes(s, limits ? &*limits : nullptr, threads_of(*c, impl_->threads),
              sizes[op][c->backend]);
  }
  for (const auto &[name, sum] : backends) {
    out.backends[name] = sum.finish();
    out.total_operations += out.backends[name].count;
  }
  for (const auto &[op, instances] : by_op)
    for (const auto &[name, sum] : instances) {
      BackendMetrics &m = out.by_op[op][name] = sum.finish();
      m.sizes = std::move(sizes[op][name]);
      std::ranges::stable_sort(m.sizes, {}, &SizeMetrics::bytes);
    }
  for (const auto &[reason, count] : impl_->dispatcher->fallback_reasons())
    out.fallback_reasons.emplace_back(reason, count);
  out.quarantined = impl_->dispatcher->quarantined();
  out.result_cache = impl_->results->metrics();
  out.devices = device_metrics(*impl_->registry);
  out.dispatch_ns = impl_->dispatcher->overhead_ns();
  for (const Decision *d : impl_->dispatcher->decisions()) {
    const std::lock_guard lock(const_cast<Decision *>(d)->mutex);
    out.shadow_checks += d->shadow.checks();
    out.shadow_ms += static_cast<double>(d->shadow.spent_ns()) / 1e6;
    out.exploration_ms += d->extra_ns / 1e6;
  }
  const Budget &budget = impl_->dispatcher->selector().budget();
  if (budget.total_ns() > 0) out.exploration_share = budget.extra_ns() / budget.total_ns();
  return out;
}

std::string Metrics::json() const {
  nlohmann::ordered_json doc{{"schema_version", 1}, {"total_operations", total_operations}};
  doc["backend_summary"] = nlohmann::ordered_json::object();
  for (const auto &[name, m] : backends) doc["backend_summary"][name] = to_json(m);
  doc["operations"] = nlohmann::ordered_json::object();
  for (const auto &[op, instances] : by_op)
    for (const auto &[name, m] : instances) doc["operations"][op][name] = to_json(m);
  doc["fallback_reasons"] = nlohmann::ordered_json::array();
  for (const auto &[reason, count] : fallback_reasons)
    doc["fallback_reasons"].push_back({{"reason", reason}, {"count", count}});
  doc["exploration_ms"] = exploration_ms;
  doc["exploration_share"] = exploration_share;
  doc["shadow"] = {{"checks", shadow_checks}, {"ms", shadow_ms}, {"quarantined", quarantined}};
  doc["dispatch_ns"] = dispatch_ns;
  doc["result_cache"] = {
      {"hits", result_cache.hits},           {"misses", result_cache.misses},
      {"hit_rate", result_cache.hit_rate()}, {"evictions", result_cache.evictions},
      {"entries", result_cache.entries},     {"bytes", result_cache.bytes},
      {"capacity", result_cache.capacity}};
  doc["devices"] = nlohmann::ordered_json::object();
  for (const auto &[name, m] : devices) doc["devices"][name] = to_json(m);
  doc["limits"] = limits;
  doc["machine"] = machine().fingerprint;
  return doc.dump(2);
}

}  // namespace switchyard
