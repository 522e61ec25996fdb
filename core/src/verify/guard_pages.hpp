// SPDX-License-Identifier: Apache-2.0
#pragma once
/// A problem's arrays beside pages that may not be touched: a kernel that reads or writes where it
/// must not is stopped at that instruction, and is told apart from other crashes.

#include <optional>
#include <string>

#include "op/problem.hpp"

namespace switchyard {

/// Which end of every array touches a forbidden page.
enum class Edge { begin, end };

/// Copies of a problem's inputs, read-only, and room for its outputs, each in a mapping of its own
/// with a forbidden page on either side. What is left of the pages beside an output holds canaries.
class GuardedArrays {
 public:
  /// Fails with out_of_memory. `description` is what a fault's text says of the problem.
  static Result<GuardedArrays> make(const Problem &problem, Edge edge);
  GuardedArrays(GuardedArrays &&) noexcept;
  GuardedArrays &operator=(GuardedArrays &&) = delete;
  ~GuardedArrays();

  /// Fills `frame` (made with the problem's slot counts).
  void bind(const Problem &problem, CallFrame &frame) const noexcept;
  /// The first output with a changed canary, or nullopt.
  std::optional<std::size_t> overrun() const noexcept;

  struct Array {
    std::size_t slot = 0;
    bool input = false;
    TensorView view;
    std::byte *mapping = nullptr;  ///< null for absent and empty arrays
    std::size_t mapped = 0;        ///< forbidden pages included
    std::byte *data = nullptr;
    std::size_t bytes = 0;
  };
  const std::vector<Array> &arrays() const noexcept { return arrays_; }

 private:
  GuardedArrays() = default;
  Status add(std::size_t slot, bool input, const TensorView &like, Edge edge);

  std::vector<Array> arrays_;
};

/// While it lives, a fault on a forbidden page of `arrays` ends this process after a line "fault
/// TEXT" on the descriptor of `report_guard_faults`. One at a time. Without that call it does
/// nothing.
class GuardWatch {
 public:
  GuardWatch(const GuardedArrays &arrays, const std::string &where) noexcept;
  ~GuardWatch();
  GuardWatch(const GuardWatch &) = delete;
  GuardWatch &operator=(const GuardWatch &) = delete;
};

/// Takes over SIGSEGV and SIGBUS of this process, a worker; faults elsewhere end it as ever.
void report_guard_faults(int fd) noexcept;

}  // namespace switchyard
