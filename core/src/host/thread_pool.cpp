// SPDX-License-Identifier: Apache-2.0
#include "host/thread_pool.hpp"

#include <pthread.h>

#include <algorithm>

#include "host/float_state.hpp"

namespace switchyard {
namespace {

thread_local bool inside_loop = false;
std::atomic<ThreadPool *> process_pool{nullptr};

}  // namespace

ThreadPool &ThreadPool::process() {
  static const bool registered = [] {
    process_pool = new ThreadPool;
    // The parent's pool object is left behind on purpose: its threads do not exist here.
    pthread_atfork(nullptr, nullptr, [] { process_pool = new ThreadPool; });
    return true;
  }();
  (void)registered;
  return *process_pool;
}

ThreadPool::~ThreadPool() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  for (auto &t : threads_) t.join();
}

void ThreadPool::drain(Loop &loop) noexcept {
  const FloatStateGuard guard;
  inside_loop = true;
  for (std::uint64_t i; (i = loop.next.fetch_add(1, std::memory_order_relaxed)) < loop.n;)
    loop.fn(loop.arg, i);
  inside_loop = false;
}

void ThreadPool::grow(std::uint32_t helpers) {
  while (threads_.size() < helpers) threads_.emplace_back([this] { work(); });
}

void ThreadPool::work() {
  std::uint64_t seen = 0;
  std::unique_lock lock(mutex_);
  while (true) {
    wake_.wait(lock, [&] { return stop_ || generation_ != seen; });
    if (stop_) return;
    seen = generation_;
    if (loop_.helpers == 0) continue;
    --loop_.helpers;
    ++active_;
    lock.unlock();
    drain(loop_);
    lock.lock();
    if (--active_ == 0) idle_.notify_one();
  }
}

void ThreadPool::run(std::uint64_t n, sy_task_fn fn, void *arg,
                     std::uint32_t max_threads) noexcept {
  const auto helpers = static_cast<std::uint32_t>(std::min<std::uint64_t>(n, max_threads));
  std::unique_lock busy(busy_, std::defer_lock);
  if (helpers <= 1 || inside_loop || !busy.try_lock()) {
    for (std::uint64_t i = 0; i < n; ++i) fn(arg, i);
    return;
  }
  {
    std::lock_guard lock(mutex_);
    try {
      grow(helpers - 1);
    } catch (...) {
      // No more threads to be had: those that exist, or the caller alone, do the work.
    }
    loop_.n = n;
    loop_.fn = fn;
    loop_.arg = arg;
    loop_.helpers = helpers - 1;
    loop_.next.store(0, std::memory_order_relaxed);
    ++generation_;
  }
  wake_.notify_all();
  drain(loop_);
  std::unique_lock lock(mutex_);
  loop_.helpers = 0;
  idle_.wait(lock, [&] { return active_ == 0; });
}

}  // namespace switchyard
