// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Passes progress to the user's callback, from one thread at a time and not too often, and
/// remembers the wish to stop.

#include <atomic>
#include <chrono>
#include <mutex>
#include <switchyard/engine.hpp>

namespace switchyard {

class Poller {
 public:
  explicit Poller(const Progress &progress) : progress_(progress) {}

  bool active() const noexcept { return static_cast<bool>(progress_); }
  /// The share of the whole work that the present piece covers. [not while pieces run]
  void span(double begin, double end) noexcept {
    begin_ = begin;
    length_ = end - begin;
  }
  /// `done` of the present piece, 0..1; true = stop. [any-thread]
  bool stop(double done) noexcept;
  bool stopped() const noexcept { return stopped_.load(std::memory_order_relaxed); }

  /// Has the call report here, if anybody listens.
  void watch(sy_call &call) noexcept {
    if (!active()) return;
    call.progress = hook;
    call.progress_arg = this;
  }

 private:
  /// sy_call::progress, with the Poller as argument.
  static std::int32_t hook(void *self, double done) noexcept {
    return static_cast<Poller *>(self)->stop(done) ? 1 : 0;
  }

  const Progress &progress_;
  std::mutex mutex_;
  std::chrono::steady_clock::time_point last_{};
  std::atomic<bool> stopped_{false};
  double begin_ = 0, length_ = 1;
};

}  // namespace switchyard
