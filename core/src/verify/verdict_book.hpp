// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Which kernels may see caller data of which shape class. Unknown ones are gated by a background
/// thread, in the worker process; verdicts persist.

#include <atomic>
#include <condition_variable>
#include <list>
#include <thread>

#include "registry/registry.hpp"

namespace switchyard {

enum class Verdict : std::uint8_t { pending, gate, cached, failed };

/// One kernel on one shape class. `reason` is written before `state` leaves pending.
struct VerdictCell {
  std::atomic<Verdict> state{Verdict::pending};
  std::string reason;
  bool asked = false;  ///< a gate is queued or was run; guarded by the book

  Verdict get() const noexcept { return state.load(std::memory_order_acquire); }
  bool passed() const noexcept {
    const Verdict v = get();
    return v == Verdict::gate || v == Verdict::cached;
  }
  /// "gate", "cached" or "no", as results report it.
  std::string_view word() const noexcept {
    const Verdict v = get();
    return v == Verdict::gate ? "gate" : v == Verdict::cached ? "cached" : "no";
  }
};

class VerdictBook {
 public:
  VerdictBook(const Options &options, const Registry &registry, VerdictStore &store,
              std::uint32_t threads);
  ~VerdictBook();
  VerdictBook(const VerdictBook &) = delete;
  VerdictBook &operator=(const VerdictBook &) = delete;

  /// The cells of `candidates` (one op) for calls like `shape`; missing verdicts are queued, the
  /// first candidate's plugin first, but for the candidates behind the first `now`, which stay
  /// pending until they are asked for again. Cells live as long as the book. [any-thread]
  std::vector<const VerdictCell *> cells(std::span<const Candidate *const> candidates,
                                         const Shape &shape, std::size_t now = SIZE_MAX);
  /// The kernel was found wrong: no class of calls trusts it any more, in later processes neither.
  void quarantine(const Candidate &candidate, const std::string &reason);
  /// Waits until the cell is decided; false at the timeout.
  bool wait(const VerdictCell &cell, std::uint32_t timeout_ms);
  /// No gate runs or is queued. Gates use the cores, so that timings taken beside them say little.
  bool idle() const noexcept { return open_requests_.load(std::memory_order_acquire) == 0; }
  /// Waits until then; false at the timeout.
  bool wait_idle(std::uint32_t timeout_ms);

 private:
  struct Request {
    OpIndex op;
    std::vector<Shape> shapes;
    std::vector<const Candidate *> candidates;  ///< of one plugin file
    std::vector<VerdictCell *> cells;
    std::vector<std::string> keys;
    bool background = false;  ///< no caller waits for it
  };
  /// What the store knows of a kernel on a class, or pending.
  std::unique_ptr<VerdictCell> make_cell(const Candidate &candidate, const std::string &key) const;
  void serve();
  void judge(const Request &request);
  void judge_here(const Request &request);
  /// A verdict that says nothing of the kernel (no worker) is not `lasting`.
  void settle(const Request &request, std::size_t i, const std::string &failure, bool lasting);

  const Options &options_;
  const Registry &registry_;
  VerdictStore &store_;
  const std::uint32_t threads_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, std::unique_ptr<VerdictCell>> cells_;
  std::list<Request> queue_;
  std::atomic<std::size_t> open_requests_{0};  ///< queued or being judged
  std::thread thread_;
  bool stop_ = false;
};

}  // namespace switchyard
