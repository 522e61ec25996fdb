// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Progress and cancelling for every typed call, also where its options have no callback.
///
///     switchyard::ProgressScope watch([&](double done) { return !stop_wanted; });
///     auto q = engine.quantize(weights, {.format = "q4_0"});  // "cancelled" once stop_wanted

#include <memory>
#include <switchyard/engine.hpp>

namespace switchyard {

/// While it lives, the typed calls that its thread makes tell `progress` how much of the present
/// call is done, at most every 5 ms and from any thread of the kernel, one at a time. Once it
/// returns false they end with the error `cancelled`, the present one within about 10 ms, with what
/// it wrote so far in its outputs. Calls with a callback of their own report there. Scopes nest:
/// the innermost one is told. One thread makes and destroys it.
class ProgressScope {
 public:
  SY_API explicit ProgressScope(Progress progress);
  SY_API ~ProgressScope();
  ProgressScope(const ProgressScope &) = delete;
  ProgressScope &operator=(const ProgressScope &) = delete;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace switchyard
