// SPDX-License-Identifier: Apache-2.0
#pragma once
/// The check a kernel passes before it may see caller data: generated problems of the call's shape
/// class against the reference, with canaries, unchanged inputs and the OpSpec's comparison.

#include <span>

#include "registry/candidate.hpp"

namespace switchyard {

/// The reference's kernels; each call is answered by the first that supports it.
class Reference {
 public:
  Reference() = default;
  explicit Reference(std::span<const std::unique_ptr<Candidate>> candidates);
  void add(const Candidate &candidate) { kernels_.push_back(&candidate); }
  const Candidate *find(OpIndex op, const sy_call &call) const noexcept;
  /// Runs the call (outputs caller-owned); unsupported when no kernel takes it.
  Status run(OpIndex op, const sy_call &call) const;

 private:
  std::vector<const Candidate *> kernels_;
};

struct GateResult {
  int checks = 0;       ///< problems run and compared; zero is a failure
  std::string failure;  ///< "" = passed; else what went wrong, with the shape that shows it
};

/// How far a gate goes to see accesses outside the arrays.
enum class Guards {
  canaries,  ///< writes just beside an output; safe in any process
  pages,     ///< also runs with every array's begin and end at a forbidden page: a kernel that
             ///< strays ends the process, so only where report_guard_faults was called
};

/// The reference's answers to one problem, computed when first asked for. The problem must live as
/// long and stay as it is.
class Expected {
 public:
  Expected(OpIndex op, const Reference &reference, const Problem &problem)
      : op_(op), reference_(&reference), problem_(&problem) {}
  const Reference &reference() const noexcept { return *reference_; }
  const Problem &problem() const noexcept { return *problem_; }
  /// "" or why there are none.
  std::string compute();
  const sy_call &call() const noexcept { return frame_->call(); }

 private:
  OpIndex op_;
  const Reference *reference_;
  const Problem *problem_;
  std::optional<ProblemOutputs> outputs_;
  std::optional<CallFrame> frame_;
};

/// Runs `candidate` on one problem and compares with the reference. "" or what is wrong.
/// nullopt when the candidate does not support the problem (not a failure).
std::optional<std::string> check_problem(const Candidate &candidate, Expected &expected,
                                         std::uint32_t threads, Guards guards = Guards::canaries);
std::optional<std::string> check_problem(const Candidate &candidate, const Reference &reference,
                                         const Problem &problem, std::uint32_t threads,
                                         Guards guards = Guards::canaries);

GateResult run_gate(const Candidate &candidate, const Reference &reference,
                    std::span<const Shape> shapes, std::uint64_t seed, std::uint32_t threads,
                    Guards guards = Guards::canaries);

/// Raised when the gate sees more: older verdicts count no longer.
inline constexpr int kGateRevision = 2;

/// Seed of all gates: verdicts are about the same problems everywhere.
inline constexpr std::uint64_t kGateSeed = 0x53776974636879ull;

}  // namespace switchyard
