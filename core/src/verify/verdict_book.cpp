// SPDX-License-Identifier: Apache-2.0
#include "verify/verdict_book.hpp"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <chrono>

#include "host/log.hpp"
#include "worker/protocol.hpp"

namespace switchyard {
namespace {

/// Everything a verdict depends on besides the plugin's content: what was run, against what.
std::string verdict_key(const Candidate &c, const std::string &shapes,
                        const std::string &reference_hash, std::uint32_t threads) {
  const std::string all = fmt::format("{}|{}|{}|{}|{}|{}", shapes, reference_hash, c.runtime_id,
                                      threads, SWITCHYARD_VERSION, kGateRevision);
  return fmt::format("{} {:016x}", c.name, XXH3_64bits(all.data(), all.size()));
}

}  // namespace

VerdictBook::VerdictBook(const Options &options, const Registry &registry, VerdictStore &store,
                         std::uint32_t threads)
    : options_(options), registry_(registry), store_(store), threads_(threads) {}

VerdictBook::~VerdictBook() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
    queue_.clear();
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

std::unique_ptr<VerdictCell> VerdictBook::make_cell(const Candidate &c,
                                                    const std::string &key) const {
  auto cell = std::make_unique<VerdictCell>();
  if (const auto why = store_.find(c.hash, VerdictStore::quarantine_key(c.name));
      why && !why->empty()) {
    cell->reason = "quarantined: " + *why;
    cell->state.store(Verdict::failed, std::memory_order_release);
  } else if (const auto known = store_.find(c.hash, key)) {
    cell->reason = *known;
    cell->state.store(known->empty() ? Verdict::cached : Verdict::failed,
                      std::memory_order_release);
  }
  return cell;
}

std::vector<const VerdictCell *> VerdictBook::cells(std::span<const Candidate *const> candidates,
                                                    const Shape &shape, std::size_t now) {
  std::vector<const VerdictCell *> out;
  if (candidates.empty()) return out;
  const OpIndex op = candidates.front()->op;
  const std::vector<Shape> shapes = all_ops()[op]->gate_shapes(shape);
  std::string text;
  for (const Shape &s : shapes) text += s.text() + ";";

  std::lock_guard lock(mutex_);
  // Known to nobody before all is complete: memory may run out anywhere on the way.
  std::list<Request> requests;
  std::map<std::string, std::unique_ptr<VerdictCell>> fresh;
  for (const Candidate *c : candidates) {
    const std::string key = verdict_key(*c, text, registry_.reference_hash(), threads_);
    const auto existing = cells_.find(c->hash + key);
    VerdictCell *cell = nullptr;
    if (existing != cells_.end()) {
      cell = existing->second.get();
    } else {
      auto &made = fresh[c->hash + key];
      if (!made) made = make_cell(*c, key);
      cell = made.get();
    }
    const bool wanted = out.size() < now && !cell->asked && cell->get() == Verdict::pending;
    out.push_back(cell);
    if (!wanted) continue;
    auto it = std::find_if(requests.begin(), requests.end(),
                           [&](const Request &r) { return r.candidates.front()->hash == c->hash; });
    if (it == requests.end())
      it = requests.insert(requests.end(), Request{op, shapes, {}, {}, {}, false});
    if (std::ranges::find(it->cells, cell) != it->cells.end()) continue;
    it->candidates.push_back(c);
    it->cells.push_back(cell);
    it->keys.push_back(key);
  }
  if (!requests.empty() && !thread_.joinable()) thread_ = std::thread([this] { serve(); });
  for (const Request &r : requests)
    for (VerdictCell *cell : r.cells) cell->asked = true;
  cells_.merge(fresh);
  // A first call waits for the likely winner alone.
  for (Request &r : requests) r.background = &r != &requests.front();
  open_requests_.fetch_add(requests.size(), std::memory_order_release);
  queue_.splice(queue_.end(), requests);
  changed_.notify_all();
  return out;
}

void VerdictBook::quarantine(const Candidate &candidate, const std::string &reason) {
  store_.put(candidate.hash, VerdictStore::quarantine_key(candidate.name), reason);
  log(SY_LOG_WARNING, fmt::format("{} is quarantined: {}", candidate.name, reason));
  {
    std::lock_guard lock(mutex_);
    const std::string prefix = candidate.hash + candidate.name + " ";
    for (auto it = cells_.lower_bound(prefix);
         it != cells_.end() && it->first.compare(0, prefix.size(), prefix) == 0; ++it) {
      if (it->second->get() == Verdict::failed) continue;  // its reason may be being read
      it->second->reason = "quarantined: " + reason;
      it->second->state.store(Verdict::failed, std::memory_order_release);
    }
  }
  changed_.notify_all();
}

bool VerdictBook::wait(const VerdictCell &cell, std::uint32_t timeout_ms) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, std::chrono::milliseconds(timeout_ms),
                           [&] { return cell.get() != Verdict::pending; });
}

bool VerdictBook::wait_idle(std::uint32_t timeout_ms) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, std::chrono::milliseconds(timeout_ms), [&] { return idle(); });
}

void VerdictBook::serve() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return stop_ || !queue_.empty(); });
    if (stop_) return;
    const Request request = std::move(queue_.front());
    queue_.pop_front();
    lock.unlock();
    judge(request);
    lock.lock();
    open_requests_.fetch_sub(1, std::memory_order_release);
    changed_.notify_all();
  }
}

void VerdictBook::settle(const Request &request, std::size_t i, const std::string &failure,
                         bool lasting) {
  const Candidate &c = *request.candidates[i];
  if (lasting) store_.put(c.hash, request.keys[i], failure);
  if (!failure.empty()) log(SY_LOG_WARNING, fmt::format("{} is not used: {}", c.name, failure));
  {
    std::lock_guard lock(mutex_);
    if (request.cells[i]->get() == Verdict::failed) return;  // quarantined meanwhile
    request.cells[i]->reason = failure;
    request.cells[i]->state.store(failure.empty() ? Verdict::gate : Verdict::failed,
                                  std::memory_order_release);
  }
  changed_.notify_all();
}

void VerdictBook::judge(const Request &request) {
  if (options_.isolation == Isolation::off) return judge_here(request);
  GateRequest gate;
  gate.plugin = request.candidates.front()->path;
  gate.reference = registry_.reference_path();
  gate.op = all_ops()[request.op]->id();
  gate.isa = options_.isa;
  gate.shapes = request.shapes;
  gate.threads = threads_;
  gate.background = request.background;
  for (const Candidate *c : request.candidates) gate.kernels.push_back(c->name);
  const auto verdicts = gate_in_worker(gate);
  for (std::size_t i = 0; i < request.candidates.size(); ++i) {
    if (!verdicts) {
      settle(request, i, verdicts.error().message, false);
      continue;
    }
    const auto it = std::find_if(verdicts->begin(), verdicts->end(), [&](const GateVerdict &v) {
      return v.kernel == request.candidates[i]->name;
    });
    const bool judged = it != verdicts->end();
    settle(request, i, judged ? it->failure : "the worker did not judge it", judged);
  }
}

void VerdictBook::judge_here(const Request &request) {
  for (std::size_t i = 0; i < request.candidates.size(); ++i) {
    const GateResult result = run_gate(*request.candidates[i], registry_.reference(),
                                       request.shapes, kGateSeed, threads_);
    settle(request, i, result.failure, true);
  }
}

}  // namespace switchyard
