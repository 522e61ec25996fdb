// SPDX-License-Identifier: Apache-2.0
/// Bound calls: one atomic load and the kernel's own function.
#include <cstring>

#include "base/status_codes.hpp"
#include "facade/engine_impl.hpp"
#include "host/float_state.hpp"
#include "host/host.hpp"

namespace switchyard {

namespace {

constexpr std::uint32_t kSampleEvery = 256;  // one run in so many is timed and may be checked

}  // namespace

struct Bound::Impl {
  Impl(std::uint32_t n_inputs, std::uint32_t n_outputs) : frame(n_inputs, n_outputs) {}

  Dispatcher *dispatcher = nullptr;
  OpIndex op = 0;
  Decision *decision = nullptr;
  Choice *current = nullptr;  ///< whose workspace is in place
  std::uint32_t until_sample = kSampleEvery;
  const sy_kernel *kernel = nullptr;
  sy_instance *instance = nullptr;
  std::vector<std::byte> params;
  Tensor workspace;
  std::string name;
  CallFrame frame;

  /// Takes over the decision's choice; false when there is none yet or no memory for its workspace.
  bool adopt() {
    Choice *chosen = decision->chosen.load(std::memory_order_acquire);
    if (chosen == nullptr) return false;
    const std::uint64_t bytes = chosen->candidate->workspace_size(frame.call());
    if (bytes > (workspace.present() ? workspace.bytes() : 0)) {
      auto grown = Tensor::empty(dtypes::u8, std::array{static_cast<std::int64_t>(bytes)});
      if (!grown) return false;
      workspace = std::move(*grown);
    }
    frame.call().workspace = workspace.data();
    frame.call().workspace_size = bytes;
    frame.call().state = nullptr;
    kernel = chosen->candidate->kernel;
    instance = chosen->candidate->instance.get();
    name = chosen->candidate->name;
    current = chosen;
    return true;
  }
};

Bound::Bound() = default;
Bound::Bound(Bound &&) noexcept = default;
Bound &Bound::operator=(Bound &&) noexcept = default;
Bound::~Bound() = default;

const std::string &Bound::kernel() const noexcept { return impl_->name; }

sy_tensor *Bound::input(std::size_t slot) noexcept { return impl_->frame.input_tensor(slot); }
sy_tensor *Bound::output(std::size_t slot) noexcept { return impl_->frame.output_tensor(slot); }

std::int32_t Bound::decided_run(Impl *b, sy_error *error) noexcept {
  if (b->current == nullptr || b->decision->chosen.load(std::memory_order_acquire) != b->current)
    return undecided_run(b, error);
  const sy_call &call = b->frame.call();
  // Growing lengths may need more scratch memory than the first call did.
  if (b->kernel->workspace_size != nullptr &&
      b->kernel->workspace_size(b->kernel, b->instance, &call) > call.workspace_size && !b->adopt())
    return SY_E_OUT_OF_MEMORY;
  if (--b->until_sample == 0) return sampled_run(b, error);
  const FloatStateGuard guard;
  return b->kernel->run(b->kernel, b->instance, &call, error);
}

std::int32_t Bound::sampled_run(Impl *b, sy_error *error) noexcept {
  b->until_sample = kSampleEvery;
  std::uint64_t took = 0;
  {
    const FloatStateGuard guard;
    const std::uint64_t start = now_ns();
    if (const auto status = b->kernel->run(b->kernel, b->instance, &b->frame.call(), error);
        status != SY_OK)
      return status;
    took = now_ns() - start;
  }
  const double share = b->dispatcher->options().shadow_share;
  if (b->current->candidate->reference || !b->decision->shadow.earn(share, took * kSampleEvery))
    return SY_OK;
  return b->dispatcher->check_sampled(b->op, *b->decision, *b->current, b->frame.call(), error,
                                      nullptr);
}

std::int32_t Bound::undecided_run(Impl *b, sy_error *error) noexcept {
  try {
    if (b->adopt()) return decided_run(b, error);
    return b->dispatcher->route(b->op, b->frame.call(), nullptr, error, nullptr);
  } catch (const std::bad_alloc &) {
    return SY_E_OUT_OF_MEMORY;
  }
}

Result<Bound> Engine::bind(std::string_view op, const sy_call &call) {
  const auto index = find_op(op);
  if (!index) return tl::unexpected(index.error());
  if (const auto valid = all_ops()[*index]->validate(call); !valid)
    return tl::unexpected(valid.error());
  if (call.n_inputs > CallFrame::kSlots || call.n_outputs > CallFrame::kSlots)
    return fail(ErrorCode::invalid_argument, "a call has too many tensors to be bound");
  Bound bound;
  bound.impl_ = std::make_unique<Bound::Impl>(call.n_inputs, call.n_outputs);
  Bound::Impl &b = *bound.impl_;
  for (std::uint32_t i = 0; i < call.n_inputs; ++i)
    if (call.inputs[i] != nullptr) b.frame.input(i, TensorView(*call.inputs[i]));
  for (std::uint32_t i = 0; i < call.n_outputs; ++i)
    if (call.outputs[i] != nullptr) b.frame.output(i, TensorView(*call.outputs[i]));
  b.params.resize(call.params_size);
  std::memcpy(b.params.data(), call.params, call.params_size);
  sy_call &own = b.frame.call();
  own.params = b.params.data();
  own.params_size = call.params_size;
  own.flags = call.flags;
  own.progress = call.progress;
  own.progress_arg = call.progress_arg;
  own.threads = call.threads == 0 || call.threads > impl_->threads ? impl_->threads : call.threads;
  b.dispatcher = impl_->dispatcher.get();
  b.op = *index;
  b.decision = &impl_->dispatcher->decision(*index, own);
  bound.invoke_ = Bound::decided_run;
  b.adopt();
  return bound;
}

}  // namespace switchyard
