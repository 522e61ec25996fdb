// SPDX-License-Identifier: Apache-2.0
/// Instances that died: a device that is gone, a worker that crashed.
#include <fmt/format.h>

#include "dispatcher/dispatcher.hpp"
#include "host/log.hpp"

namespace switchyard {

std::string Dispatcher::lost(const Candidate &candidate) const {
  const std::lock_guard lock(lost_mutex_);
  const auto it = lost_.find(candidate.instance.get());
  return it == lost_.end() ? "" : it->second;
}

void Dispatcher::lose(const Candidate &candidate, const std::string &reason) {
  const std::string told = fmt::format("{} is lost: {}", candidate.backend, reason);
  {
    const std::lock_guard lock(lost_mutex_);
    if (!lost_.emplace(candidate.instance.get(), told).second) return;  // announced already
  }
  log(SY_LOG_WARNING, told + "; other backends answer from now on");
  for (const Decision *known : table_.all()) {
    auto &d = *const_cast<Decision *>(known);
    const std::lock_guard lock(d.mutex);
    for (const auto &c : d.choices)
      if (c->candidate->instance == candidate.instance && c->supported())
        selector_.exclude(d, *c, told);
  }
}

}  // namespace switchyard
