// SPDX-License-Identifier: Apache-2.0
#include "dispatcher/decision.hpp"

#include <algorithm>

namespace switchyard {

double RecentTimes::median() const noexcept {
  std::array<std::uint64_t, kKept> sorted{};
  for (unsigned i = 0; i < kKept; ++i) sorted[i] = values_[i].load(std::memory_order_relaxed);
  std::ranges::nth_element(sorted, sorted.begin() + kKept / 2);
  return static_cast<double>(sorted[kKept / 2]);
}

struct DecisionTable::Slots {
  explicit Slots(std::size_t capacity) : mask(capacity - 1), slots(capacity) {}
  std::uint64_t mask;
  std::vector<std::atomic<Decision *>> slots;  ///< open addressing, linear probing
};

DecisionTable::DecisionTable() {
  tables_.push_back(std::make_unique<Slots>(256));
  current_.store(tables_.back().get(), std::memory_order_release);
}

DecisionTable::~DecisionTable() = default;

Decision *DecisionTable::find(const Key &key, std::uint64_t hash) const noexcept {
  const Slots &table = *current_.load(std::memory_order_acquire);
  for (std::uint64_t i = hash;; ++i) {
    Decision *d = table.slots[i & table.mask].load(std::memory_order_acquire);
    if (d == nullptr || d->key == key) return d;
  }
}

void DecisionTable::place(Slots &table, Decision *decision) noexcept {
  std::uint64_t i = decision->key.hash();
  while (table.slots[i & table.mask].load(std::memory_order_relaxed) != nullptr) ++i;
  table.slots[i & table.mask].store(decision, std::memory_order_release);
}

Decision *DecisionTable::insert(std::unique_ptr<Decision> fresh) {
  std::lock_guard lock(mutex_);
  if (Decision *known = find(fresh->key, fresh->key.hash())) return known;
  Slots *table = tables_.back().get();
  if (2 * (decisions_.size() + 1) > table->slots.size()) {
    auto grown = std::make_unique<Slots>(2 * table->slots.size());
    for (const auto &d : decisions_) place(*grown, d.get());
    table = grown.get();
    tables_.push_back(std::move(grown));
  }
  Decision *decision = fresh.get();
  decisions_.push_back(std::move(fresh));
  place(*table, decision);
  current_.store(table, std::memory_order_release);
  return decision;
}

std::vector<const Decision *> DecisionTable::all() const {
  std::lock_guard lock(mutex_);
  std::vector<const Decision *> out;
  for (const auto &d : decisions_) out.push_back(d.get());
  return out;
}

}  // namespace switchyard
