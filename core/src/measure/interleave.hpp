// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Times several kernels on one generated problem, taking turns, so that whatever else the machine
/// does at that moment falls on all of them.

#include <functional>
#include <memory>
#include <vector>

#include "base/call_frame.hpp"
#include "registry/candidate.hpp"

namespace switchyard {

/// One kernel on one problem, with outputs of its own. Not movable: the call points into it.
class Lane {
 public:
  /// The problem must outlive the lane.
  static Result<std::unique_ptr<Lane>> make(const Candidate &candidate, const Problem &problem,
                                            std::uint32_t threads);
  const Candidate &candidate() const noexcept { return candidate_; }
  const sy_call &call() const noexcept { return frame_.call(); }
  /// ns per call, one a turn; the first, cold turn is not kept.
  const std::vector<double> &times() const noexcept { return times_; }
  double median() const;
  bool hopeless() const noexcept { return hopeless_; }

 private:
  friend Status interleave(std::span<const std::unique_ptr<Lane>>, const struct Turns &);
  Lane(const Candidate &candidate, std::uint32_t inputs, std::uint32_t outputs)
      : candidate_(candidate), frame_(inputs, outputs) {}
  /// Runs a batch; ns per call.
  Result<double> turn();

  const Candidate &candidate_;
  ProblemOutputs outputs_;
  CallFrame frame_;
  int batch_ = 1;     ///< calls a turn, so that the clock's cost does not matter
  double least_ = 0;  ///< ns of a call, of the first turns
  bool hopeless_ = false;
  std::vector<double> times_;
};

struct Turns {
  double seconds = 0.3;  ///< in all, after the least number of turns
  int least = 5;         ///< turns of each lane that is not hopeless, unless cancelled
  int most = 1000;
  double hopeless = 8;     ///< a lane this many times slower than the fastest drops out
  double batch_ns = 20e3;  ///< least time of a turn
  std::function<Status()> cancelled{};  ///< asked between turns
};

Status interleave(std::span<const std::unique_ptr<Lane>> lanes, const Turns &turns);

}  // namespace switchyard
