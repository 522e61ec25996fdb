// SPDX-License-Identifier: Apache-2.0
#include "base/status_codes.hpp"
#include "dispatcher/dispatcher.hpp"
#include "host/float_state.hpp"

namespace switchyard {

KernelStates::~KernelStates() {
  for (const Entry &e : states_)
    if (e.state != nullptr)
      e.candidate->kernel->release(e.candidate->kernel, e.candidate->instance.get(), e.state);
}

void *KernelStates::get(const Candidate &candidate, const sy_call &call) {
  Entry &entry = states_[candidate.id];
  if (entry.calls < 2) ++entry.calls;
  if (entry.candidate != nullptr) return entry.state;
  entry.candidate = &candidate;
  if (!candidate.stateful()) return nullptr;
  const FloatStateGuard guard;
  sy_error error = make_abi_error();
  // Without a state the kernel gives the same bits, only slower: a failure is no error.
  if (candidate.kernel->prepare(candidate.kernel, candidate.instance.get(), &call, constant_inputs_,
                                &entry.state, &error) != SY_OK)
    entry.state = nullptr;
  return entry.state;
}

}  // namespace switchyard
