// SPDX-License-Identifier: Apache-2.0
#pragma once
/// The host's own pool behind sy_host::parallel_for and the core's scans.

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

#include <switchyard/plugin.h>

namespace switchyard {

/// Threads sleep between loops and start on first use. One loop at a time uses the pool; a second
/// caller, and nested loops, run on the calling thread alone.
class ThreadPool {
 public:
  ThreadPool() = default;
  ~ThreadPool();
  ThreadPool(const ThreadPool &) = delete;
  ThreadPool &operator=(const ThreadPool &) = delete;

  /// fn(arg, i) for each i < n on at most max_threads threads, the caller's included. [any-thread]
  void run(std::uint64_t n, sy_task_fn fn, void *arg, std::uint32_t max_threads) noexcept;

  /// The pool of this process; made anew in a forked child, whose copy of the parent's threads is
  /// gone.
  static ThreadPool &process();

 private:
  struct Loop {
    std::uint64_t n = 0;
    sy_task_fn fn = nullptr;
    void *arg = nullptr;
    std::uint32_t helpers = 0;  ///< how many pool threads may still join
    std::atomic<std::uint64_t> next{0};
  };
  void grow(std::uint32_t helpers);
  void work();
  static void drain(Loop &loop) noexcept;

  std::mutex busy_;  ///< held by the caller whose loop runs
  std::mutex mutex_;
  std::condition_variable wake_, idle_;
  std::vector<std::thread> threads_;
  Loop loop_;
  std::uint64_t generation_ = 0;
  std::uint32_t active_ = 0;
  bool stop_ = false;
};

}  // namespace switchyard
