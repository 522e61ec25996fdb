// SPDX-License-Identifier: Apache-2.0
#pragma once
/// What a thread remembers of its latest calls: a call that equals an earlier one in everything but
/// where its data lies needs no second validation, key or look-up. (OpSpec::validate, `supports`
/// and `workspace_size` depend on descriptions and alignment only, never on data.)

#include <array>
#include <cstring>

#include "dispatcher/decision.hpp"

namespace switchyard {

/// What follows from a call's description.
struct KnownCall {
  Decision *decision = nullptr;
  Work work;
  Choice *choice = nullptr;  ///< whose support and workspace are known
  std::uint64_t workspace = 0;
};

struct RememberedCall {
  static constexpr std::size_t kTensors = 12;
  static constexpr std::size_t kParams = 64;

  std::uint64_t dispatcher = 0;  ///< unique number of the dispatcher, 0 = empty
  OpIndex op = 0;
  std::uint32_t threads = 0, n_inputs = 0, n_outputs = 0;
  std::uint64_t params_size = 0;
  std::array<std::byte, kParams> params{};
  std::array<bool, kTensors> present{};
  std::array<sy_tensor, kTensors> tensors{};

  KnownCall known;

  /// Can such a call be remembered at all?
  static bool fits(const sy_call &call) noexcept {
    return call.n_inputs + call.n_outputs <= kTensors && call.params_size <= kParams;
  }

  bool matches(std::uint64_t dispatcher_id, OpIndex op_index, const sy_call &call) const noexcept {
    if (dispatcher != dispatcher_id || op != op_index || threads != call.threads ||
        n_inputs != call.n_inputs || n_outputs != call.n_outputs ||
        params_size != call.params_size ||
        std::memcmp(params.data(), call.params, params_size) != 0)
      return false;
    for (std::uint32_t i = 0; i < n_inputs; ++i)
      if (!same_but_data(i, call.inputs[i])) return false;
    for (std::uint32_t i = 0; i < n_outputs; ++i)
      if (!same_but_data(n_inputs + i, call.outputs[i])) return false;
    return true;
  }

  void assign(std::uint64_t dispatcher_id, OpIndex op_index, const sy_call &call,
              const KnownCall &follows) noexcept {
    dispatcher = dispatcher_id;
    op = op_index;
    threads = call.threads;
    n_inputs = call.n_inputs;
    n_outputs = call.n_outputs;
    params_size = call.params_size;
    std::memcpy(params.data(), call.params, params_size);
    for (std::uint32_t i = 0; i < n_inputs + n_outputs; ++i) {
      const sy_tensor *t = i < n_inputs ? call.inputs[i] : call.outputs[i - n_inputs];
      present[i] = t != nullptr;
      if (t != nullptr) tensors[i] = *t;
    }
    known = follows;
  }

 private:
  bool same_but_data(std::size_t i, const sy_tensor *t) const noexcept {
    if (t == nullptr) return !present[i];
    if (!present[i]) return false;
    const sy_tensor &mine = tensors[i];
    const auto a = reinterpret_cast<std::uintptr_t>(mine.handle);
    const auto b = reinterpret_cast<std::uintptr_t>(t->handle);
    constexpr std::size_t kFrom = offsetof(sy_tensor, byte_offset);
    return (a ^ b) % 64 == 0 && (a == 0) == (b == 0) &&
           std::memcmp(&mine.byte_offset, &t->byte_offset, sizeof(sy_tensor) - kFrom) == 0;
  }
};

/// The latest few calls of this thread.
class CallMemo {
 public:
  RememberedCall *find(std::uint64_t dispatcher, OpIndex op, const sy_call &call) noexcept {
    for (RememberedCall &r : calls_)
      if (r.matches(dispatcher, op, call)) return &r;
    return nullptr;
  }
  RememberedCall &oldest() noexcept { return calls_[next_++ % calls_.size()]; }

 private:
  std::array<RememberedCall, 4> calls_{};
  std::size_t next_ = 0;
};

}  // namespace switchyard
