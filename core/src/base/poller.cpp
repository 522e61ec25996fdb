// SPDX-License-Identifier: Apache-2.0
#include "base/poller.hpp"

#include <algorithm>

namespace switchyard {

bool Poller::stop(double done) noexcept {
  constexpr auto kInterval = std::chrono::milliseconds(5);
  if (!progress_) return false;
  if (stopped()) return true;
  const std::unique_lock lock(mutex_, std::try_to_lock);
  if (!lock.owns_lock()) return false;
  const auto now = std::chrono::steady_clock::now();
  if (now - last_ < kInterval) return false;
  last_ = now;
  bool go_on = false;  // a callback that throws asks to stop
  try {
    go_on = progress_(std::clamp(begin_ + length_ * done, 0.0, 1.0));
  } catch (...) {
  }
  if (!go_on) stopped_.store(true, std::memory_order_relaxed);
  return !go_on;
}

}  // namespace switchyard
