// SPDX-License-Identifier: Apache-2.0
#pragma once
/// What the sections of the kit share; all of it runs in a worker.

#include <functional>
#include <span>

#include "check/check.hpp"
#include "registry/candidates.hpp"
#include "verify/gate.hpp"

namespace switchyard::check {

/// A worker's plugin, the reference, and where answers go.
struct Bench {
  std::string section;
  int out_fd = -1;
  MappedPlugin plugin;
  const sy_host *host = nullptr;
  std::vector<std::unique_ptr<Candidate>> candidates, references;
  Reference reference;

  /// Said before something that may end the process: names the culprit.
  void begin(const std::string &kernel, const std::string &name) const;
  void say(const std::string &kernel, const std::string &name, State state,
           const std::string &detail = "") const;
  /// pass, or fail with what is wrong.
  void verdict(const std::string &kernel, const std::string &name, const std::string &wrong,
               const std::string &detail = "") const;
  void line(const std::string &text) const;
};

/// A problem with outputs and a frame that holds them.
class Trial {
 public:
  /// nullopt where the problem cannot be made or the kernel does not support it.
  static std::unique_ptr<Trial> make(const Candidate &candidate, const Shape &shape,
                                     std::uint32_t threads = 1);
  std::string run(const Candidate &candidate);  ///< "" or the failure
  std::int32_t status(const Candidate &candidate) noexcept;
  std::vector<std::byte> bytes() const;  ///< of all outputs, for comparing runs
  sy_call &call() noexcept { return frame_.call(); }
  CallFrame &frame() noexcept { return frame_; }
  const Problem &problem() const noexcept { return problem_; }

 private:
  Trial(Problem problem, ProblemOutputs outputs);
  Problem problem_;
  ProblemOutputs outputs_;
  CallFrame frame_;
};

/// Conformance shapes that the kernel supports, at most `most`, spread over the list.
std::vector<Shape> supported_shapes(const Candidate &candidate, std::size_t most);

/// A trial of the first supported conformance shape; null if there is none.
std::unique_ptr<Trial> first_supported(const Candidate &candidate);

/// The supported conformance shape with the most work, grown until `kernel` needs at least `ms`;
/// null if it is still faster at a size where memory becomes a concern.
std::unique_ptr<Trial> grown(const Candidate &candidate, double ms, double *took_ms = nullptr);

// One function a section, in sections_*.cpp.
void check_abi(const Bench &bench);
void check_results(const Bench &bench);
void check_behaviour(const Bench &bench);
void check_threads(const Bench &bench);
void check_cancel(const Bench &bench);
void check_leaks(const Bench &bench);
void check_shutdown(Bench &bench);
void check_speed(const Bench &bench);

}  // namespace switchyard::check
