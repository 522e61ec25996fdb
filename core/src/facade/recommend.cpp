// SPDX-License-Identifier: Apache-2.0
#include "facade/recommend.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "facade/engine_impl.hpp"
#include "machine/machine.hpp"
#include "metrics/measurements.hpp"

namespace switchyard {
namespace {

std::string size_text(double bytes) {
  if (bytes < 1 << 10) return fmt::format("{:.0f} B", bytes);
  if (bytes < 1 << 20) return fmt::format("{:.0f} KiB", bytes / (1 << 10));
  return bytes < 1 << 30 ? fmt::format("{:.1f} MiB", bytes / (1 << 20))
                         : fmt::format("{:.1f} GiB", bytes / (1 << 30));
}

/// What would help calls that a limit of the machine holds back. The evidence is the measurement of
/// the backend that such calls spent most time in; what the change would bring was not measured, so
/// no gain is given.
void recommend_by_limits(const Metrics &metrics, std::vector<Recommendation> &out) {
  constexpr double kShare = 0.1;  // of all time, to be worth a word
  std::map<std::string, std::pair<double, Recommendation>> largest;
  double total = 0;
  for (const auto &[name, m] : metrics.backends) total += m.total_ms;
  for (const auto &[op, instances] : metrics.by_op)
    for (const auto &[name, m] : instances)
      for (const SizeMetrics &s : m.sizes) {
        const double share =
            total > 0 ? m.total_ms / total * static_cast<double>(s.timed_count) * s.mean_ms /
                            std::max(m.mean_ms * static_cast<double>(m.timed_count), 1e-12)
                      : 0;
        if (s.bound.empty() || share < kShare) continue;
        const std::string calls = fmt::format("{} calls of about {}", op, size_text(s.bytes));
        const std::string what =
            s.bound == "memory" ? fmt::format(
                                      "move fewer bytes in {}: narrower types or parts "
                                      "that stay in a nearer cache",
                                      calls)
            : s.bound == "compute"
                ? fmt::format("give {} more threads or narrower factors: arithmetic limits them",
                              calls)
                : fmt::format(
                      "join {} into larger ones, or look for a kernel that comes closer "
                      "to the machine's limits",
                      calls);
        auto &[known, kept] = largest[what];
        if (share <= known) continue;
        known = share;
        kept = {what,
                fmt::format("measured here: {:.0f} % of all time, {} at {:.3g} GB/s and "
                            "{:.3g} GFLOP/s, {}",
                            100 * share, name, s.gb_per_s, s.gflop_per_s, s.text),
                0};
      }
  for (auto &[what, entry] : largest) out.push_back(std::move(entry.second));
}

std::vector<MeasuredClass> measured_classes(Dispatcher &dispatcher) {
  std::vector<MeasuredClass> out;
  for (const Decision *decision : dispatcher.decisions()) {
    auto *d = const_cast<Decision *>(decision);
    const std::lock_guard lock(d->mutex);
    const Choice *chosen = d->chosen.load(std::memory_order_acquire);
    if (chosen == nullptr) continue;
    MeasuredClass c{std::string(all_ops()[d->op]->id()),
                    chosen->candidate->backend,
                    static_cast<double>(d->total_ns.load(std::memory_order_relaxed)),
                    {}};
    for (const auto &choice : d->choices) {
      if (!choice->usable() || choice->samples.count() < Choice::kFewSamples) continue;
      const double ns = choice->samples.median();
      const auto [at, fresh] = c.medians.emplace(choice->candidate->backend, ns);
      if (!fresh) at->second = std::min(at->second, ns);
    }
    out.push_back(std::move(c));
  }
  return out;
}

}  // namespace

std::vector<Recommendation> recommend_pins(std::span<const MeasuredClass> classes) {
  constexpr double kGain = 1.1;  // less is noise, or will be gone with the next shape
  std::map<std::string, std::set<std::string>> backends;
  for (const MeasuredClass &c : classes)
    for (const auto &[backend, ns] : c.medians) backends[c.op].insert(backend);
  std::vector<Recommendation> out;
  for (const auto &[op, names] : backends) {
    Recommendation best;
    for (const std::string &name : names) {
      double now = 0, then = 0;
      int shapes = 0;
      bool known = true;
      for (const MeasuredClass &c : classes) {
        if (c.op != op || c.total_ns == 0) continue;
        const auto answers = c.medians.find(c.chosen), other = c.medians.find(name);
        known = known && answers != c.medians.end() && other != c.medians.end();
        if (!known) break;
        ++shapes;
        now += c.total_ns;
        then += c.total_ns * other->second / answers->second;
      }
      if (!known || shapes == 0 || now < kGain * then || now / then <= best.expected_gain) continue;
      best = {fmt::format("pin {} to {}", op, name),
              fmt::format("measured here on all {} shapes that were called: {:.4g} ms instead of "
                          "{:.4g} ms",
                          shapes, then / 1e6, now / 1e6),
              now / then,
              fmt::format("switchyard run CONFIG.yaml --set 'engine.pin={{{}: {}}}'", op, name)};
    }
    if (best.expected_gain > 0) out.push_back(std::move(best));
  }
  return out;
}

std::vector<Recommendation> Engine::recommend() const {
  std::vector<Recommendation> out;
  for (const PluginInfo &p : impl_->registry->plugins())
    if (p.status == "refused")
      out.push_back({fmt::format("repair or remove the plugin file {}", p.path), p.reason, 0,
                     "switchyard plugin check " + p.path});
  const Machine &here = machine();
  if (static_cast<int>(impl_->threads) < here.thread_budget)
    out.push_back(
        {fmt::format("raise the thread budget from {} to {}", impl_->threads, here.thread_budget),
         "this process may use that many cores (affinity, cpuset and cgroup quota)", 0,
         fmt::format("switchyard run CONFIG.yaml --threads {}", here.thread_budget)});
  const auto pins = recommend_pins(measured_classes(*impl_->dispatcher));
  out.insert(out.end(), pins.begin(), pins.end());
  std::vector<Usage> usage;
  for (const Decision *d : impl_->dispatcher->decisions())
    if (const Choice *chosen = d->chosen.load(std::memory_order_acquire); chosen != nullptr)
      usage.push_back({std::string(all_ops()[d->op]->id()), d->shape, chosen->candidate->backend});
  for (Recommendation &r :
       recommend_plugins(shipped_measurements(), here.fingerprint, static_cast<int>(impl_->threads),
                         impl_->registry->plugins(), usage))
    out.push_back(std::move(r));
  recommend_by_limits(metrics(), out);
  return out;
}

nlohmann::ordered_json to_json(const Recommendation &r) {
  using Json = nlohmann::ordered_json;
  return {{"what", r.what},
          {"evidence", r.evidence},
          {"expected_gain", r.expected_gain > 0 ? Json(r.expected_gain) : Json()},
          {"command", r.command.empty() ? Json() : Json(r.command)}};
}

}  // namespace switchyard
