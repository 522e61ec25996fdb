// SPDX-License-Identifier: Apache-2.0
#pragma once
/// What drivers of whole algorithms (a k-means fit) need of the dispatcher.

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/call_frame.hpp"

namespace switchyard {

/// Which kernel answered and how far it is trusted.
struct Answer {
  std::string_view backend;   ///< instance, "avx512"; lives as long as the engine
  std::string_view kernel;    ///< "kmeans.step.f32.blocked@avx512"
  std::string_view verified;  ///< "gate", "cached" or "no"
  std::string fallback_reason;
  std::uint64_t ns = 0;  ///< 0 when this call was not timed
};

class Runner {
 public:
  virtual ~Runner() = default;

  /// Kernel states for calls that share constant inputs; one per fit. Destroying it releases them.
  /// `constant_inputs`: bit i = inputs[i] keeps address and contents. Not thread-safe.
  class States {
   public:
    virtual ~States() = default;
  };
  virtual std::unique_ptr<States> make_states(std::uint64_t constant_inputs) = 0;

  /// Validates, chooses, runs. `states` may be null. [any-thread]
  virtual Status run(std::string_view op, sy_call &call, States *states, Answer *answer) = 0;

  /// The thread budget of a call.
  virtual std::uint32_t threads() const noexcept = 0;

  /// Runs fn(i) for i < n on the thread budget (the host's pool). Nested calls run serially.
  virtual void parallel_for(std::uint64_t n, const std::function<void(std::uint64_t)> &fn) = 0;
};

}  // namespace switchyard
