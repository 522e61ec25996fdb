// SPDX-License-Identifier: Apache-2.0
#include "base/progress_scope.hpp"

#include <utility>

#include "base/poller.hpp"

namespace switchyard {
namespace {

thread_local Poller *innermost = nullptr;

}  // namespace

struct ProgressScope::State {
  explicit State(Progress given) : progress(std::move(given)), poller(progress) {}
  Progress progress;
  Poller poller;
  Poller *outer = nullptr;
};

ProgressScope::ProgressScope(Progress progress)
    : state_(std::make_unique<State>(std::move(progress))) {
  state_->outer = std::exchange(innermost, &state_->poller);
}

ProgressScope::~ProgressScope() { innermost = state_->outer; }

void watch(sy_call &call) noexcept {
  if (innermost != nullptr && call.progress == nullptr) innermost->watch(call);
}

}  // namespace switchyard
