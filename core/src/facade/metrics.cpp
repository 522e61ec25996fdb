// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "facade/engine_impl.hpp"
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

nlohmann::ordered_json to_json(const BackendMetrics &m) {
  return {{"count", m.count},   {"avg_time_ms", m.mean_ms}, {"total_time_ms", m.total_ms},
          {"p50_ms", m.p50_ms}, {"p95_ms", m.p95_ms},       {"timed_count", m.timed_count},
          {"bytes", m.bytes},   {"flops", m.flops},         {"fallbacks", m.fallbacks}};
}

}  // namespace

Metrics Engine::metrics() const {
  std::map<std::string, Sum> backends;
  std::map<std::string, std::map<std::string, Sum>> by_op;
  Metrics out;
  for (const auto &c : impl_->registry->all()) {
    const KernelStats &s = c->stats;
    if (s.count.load(std::memory_order_relaxed) == 0 &&
        s.fallbacks.load(std::memory_order_relaxed) == 0)
      continue;
    backends[c->backend].add(s);
    by_op[std::string(all_ops()[c->op]->id())][c->backend].add(s);
  }
  for (const auto &[name, sum] : backends) {
    out.backends[name] = sum.finish();
    out.total_operations += out.backends[name].count;
  }
  for (const auto &[op, instances] : by_op)
    for (const auto &[name, sum] : instances) out.by_op[op][name] = sum.finish();
  for (const auto &[reason, count] : impl_->dispatcher->fallback_reasons())
    out.fallback_reasons.emplace_back(reason, count);
  out.dispatch_ns = impl_->dispatcher->overhead_ns();
  for (const Decision *d : impl_->dispatcher->decisions()) {
    const std::lock_guard lock(const_cast<Decision *>(d)->mutex);
    out.exploration_ms += static_cast<double>(d->exploring_ns) / 1e6;
  }
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
  doc["dispatch_ns"] = dispatch_ns;
  return doc.dump(2);
}

std::vector<Recommendation> Engine::recommend() const {
  std::vector<Recommendation> out;
  for (const PluginInfo &p : impl_->registry->plugins())
    if (p.status == "refused")
      out.push_back({fmt::format("repair or remove the plugin file {}", p.path), p.reason, 0});
  const Machine &here = machine();
  if (static_cast<int>(impl_->threads) < here.thread_budget)
    out.push_back(
        {fmt::format("raise the thread budget from {} to {}", impl_->threads, here.thread_budget),
         "this process may use that many cores (affinity, cpuset and cgroup quota)", 0});
  // Measured: a class of calls where the answer is held back by the margin or by numerics.
  for (const Decision *decision : impl_->dispatcher->decisions()) {
    auto *d = const_cast<Decision *>(decision);
    const std::lock_guard lock(d->mutex);
    const Choice *chosen = d->chosen.load(std::memory_order_acquire);
    if (chosen == nullptr || chosen->samples.count() == 0) continue;
    for (const auto &c : d->choices) {
      if (c.get() == chosen || !c->usable() || c->samples.count() < 3) continue;
      const double gain = chosen->samples.median() / c->samples.median();
      if (gain > 1.02)
        out.push_back({fmt::format("pin {} to {} for calls like {}", all_ops()[d->op]->id(),
                                   c->candidate->backend, d->shape),
                       fmt::format("measured here: {} has a median of {:.4f} ms, {} of {:.4f} ms",
                                   c->candidate->name, c->samples.median() / 1e6,
                                   chosen->candidate->name, chosen->samples.median() / 1e6),
                       gain});
    }
  }
  return out;
}

}  // namespace switchyard
