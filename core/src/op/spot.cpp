// SPDX-License-Identifier: Apache-2.0
#include "op/spot.hpp"

#include <algorithm>

namespace switchyard {
namespace {

/// First and past-the-last byte of a tensor's elements.
struct Bytes {
  std::uintptr_t begin = 0, end = 0;
};

Bytes bytes_of(const sy_tensor &t) noexcept {
  const TensorView view(t);
  if (view.elements() == 0) return {};
  std::int64_t low = 0, high = 0;
  for (int i = 0; i < view.rank(); ++i) {
    const std::int64_t reach = (view.dim(i) - 1) * view.stride(i);
    (reach < 0 ? low : high) += reach;
  }
  const auto size = static_cast<std::int64_t>(size_of(t.dtype));
  const auto *first = view.data<const std::byte>();
  return {reinterpret_cast<std::uintptr_t>(first + low * size),
          reinterpret_cast<std::uintptr_t>(first + (high + 1) * size)};
}

}  // namespace

std::uint64_t mix_bits(std::uint64_t pick) noexcept {
  std::uint64_t z = pick + 0x9E3779B97F4A7C15ull;
  z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ z >> 27) * 0x94D049BB133111EBull;
  return z ^ z >> 31;
}

Spot::Spot(const sy_call &done) noexcept
    : got_(done.n_inputs, done.n_outputs), want_(done.n_inputs, done.n_outputs) {
  for (CallFrame *frame : {&got_, &want_}) {
    frame->call().params = done.params;
    frame->call().params_size = done.params_size;
    frame->call().flags = done.flags;
  }
}

Status Spot::output(std::size_t slot, const TensorView &part) {
  got_.output(slot, part);
  return scratch(slot, part.dtype(), part.shape());
}

Status Spot::scratch(std::size_t slot, DType dtype, std::span<const std::int64_t> shape) {
  auto memory = Tensor::empty(dtype, shape);
  if (!memory) return tl::unexpected(memory.error());
  want_.output(slot, *memory);
  storage_.push_back(std::move(*memory));
  return {};
}

Result<std::string> Spot::check(const OpSpec &op, const ReferenceRunner &reference) {
  if (auto ok = op.validate(want_.call()); !ok) return tl::unexpected(ok.error());
  if (auto ok = reference(want_.call()); !ok) return tl::unexpected(ok.error());
  // The finished call's side shares the inputs, which comparisons may look at.
  for (std::size_t i = 0; i < want_.call().n_inputs; ++i)
    if (const sy_tensor *t = want_.input_tensor(i)) got_.input(i, TensorView(*t));
  return op.compare(Problem(), got_.call(), want_.call(), reference).value_or("");
}

Result<std::string> check_whole(const OpSpec &op, const sy_call &done,
                                const ReferenceRunner &reference) {
  Spot spot(done);
  for (std::uint32_t i = 0; i < done.n_inputs; ++i)
    if (done.inputs[i] != nullptr) spot.input(i, TensorView(*done.inputs[i]));
  for (std::uint32_t i = 0; i < done.n_outputs; ++i)
    if (done.outputs[i] != nullptr)
      if (auto ok = spot.output(i, TensorView(*done.outputs[i])); !ok)
        return tl::unexpected(ok.error());
  return spot.check(op, reference);
}

Result<std::string> OpSpec::spot_check(const sy_call &done, std::uint64_t,
                                       const ReferenceRunner &reference) const {
  return check_whole(*this, done, reference);
}

std::int64_t choose_start(std::uint64_t pick, std::int64_t n, std::int64_t count) noexcept {
  const std::int64_t last = std::max<std::int64_t>(0, n - count);
  switch (pick & 7) {
    case 0:
      return 0;
    case 1:
    case 2:
      return last;
    default:
      return static_cast<std::int64_t>((pick >> 3) % static_cast<std::uint64_t>(last + 1));
  }
}

bool can_be_checked(const sy_call &done) noexcept {
  if (done.n_inputs > CallFrame::kSlots || done.n_outputs > CallFrame::kSlots) return false;
  for (std::uint32_t o = 0; o < done.n_outputs; ++o) {
    const sy_tensor *out = done.outputs[o];
    if (out == nullptr) continue;
    if (out->device_kind != SY_DEVICE_HOST) return false;
    const Bytes written = bytes_of(*out);
    for (std::uint32_t i = 0; i < done.n_inputs; ++i) {
      const sy_tensor *in = done.inputs[i];
      if (in == nullptr) continue;
      if (in->device_kind != SY_DEVICE_HOST) return false;
      const Bytes read = bytes_of(*in);
      if (read.begin < written.end && written.begin < read.end) return false;
    }
  }
  return true;
}

}  // namespace switchyard
