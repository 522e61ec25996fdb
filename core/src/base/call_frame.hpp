// SPDX-License-Identifier: Apache-2.0
#pragma once
/// A sy_call with room for its own tensors: built on the stack, never allocates.

#include <array>
#include <switchyard/tensor.hpp>

namespace switchyard {

class CallFrame {
 public:
  static constexpr std::size_t kSlots = 12;

  CallFrame(std::uint32_t n_inputs, std::uint32_t n_outputs) noexcept {
    call_.struct_size = sizeof(sy_call);
    call_.n_inputs = n_inputs;
    call_.n_outputs = n_outputs;
    call_.inputs = inputs_.data();
    call_.outputs = outputs_.data();
    call_.threads = 1;
  }
  CallFrame(const CallFrame &) = delete;
  CallFrame &operator=(const CallFrame &) = delete;

  /// An absent view leaves the slot NULL.
  void input(std::size_t slot, const TensorView &view) noexcept {
    set(in_, inputs_, slot, view);
    in_[slot].flags |= SY_TENSOR_READ_ONLY;
  }
  void output(std::size_t slot, const TensorView &view) noexcept {
    set(out_, outputs_, slot, view);
  }
  /// `params` must outlive the frame's use.
  template <class P>
  void params(P &params) noexcept {
    params.struct_size = sizeof(P);
    call_.params = &params;
    call_.params_size = sizeof(P);
  }
  /// The tensor of a slot, null if absent.
  sy_tensor *input_tensor(std::size_t slot) noexcept {
    return slot < kSlots && inputs_[slot] != nullptr ? &in_[slot] : nullptr;
  }
  sy_tensor *output_tensor(std::size_t slot) noexcept {
    return slot < kSlots && outputs_[slot] != nullptr ? &out_[slot] : nullptr;
  }
  sy_call &call() noexcept { return call_; }
  const sy_call &call() const noexcept { return call_; }

 private:
  using Tensors = std::array<sy_tensor, kSlots>;
  using Pointers = std::array<const sy_tensor *, kSlots>;
  static void set(Tensors &tensors, Pointers &pointers, std::size_t slot,
                  const TensorView &view) noexcept {
    pointers[slot] = nullptr;
    if (!view.present()) return;
    tensors[slot] = view.raw();
    pointers[slot] = &tensors[slot];
  }

  Tensors in_{}, out_{};
  Pointers inputs_{}, outputs_{};
  sy_call call_{};
};

}  // namespace switchyard
