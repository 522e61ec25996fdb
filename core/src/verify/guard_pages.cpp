// SPDX-License-Identifier: Apache-2.0
#include "verify/guard_pages.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "base/checked.hpp"

namespace switchyard {
namespace {

constexpr unsigned char kCanary = 0xA5;

std::size_t page_size() noexcept {
  static const auto size = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  return size;
}

bool intact(const std::byte *from, const std::byte *to) noexcept {
  return std::all_of(from, to, [](std::byte b) { return b == std::byte{kCanary}; });
}

/// First and last byte of a view's elements, relative to its first element.
struct Extent {
  std::int64_t low = 0, high = 0;
};

Extent extent_of(const TensorView &view) noexcept {
  Extent e;
  const auto size = static_cast<std::int64_t>(size_of(view.dtype()));
  for (int i = 0; i < view.rank(); ++i) {
    const std::int64_t reach = (view.dim(i) - 1) * view.stride(i) * size;
    (reach < 0 ? e.low : e.high) += reach;
  }
  e.high += size;
  return e;
}

}  // namespace

Result<GuardedArrays> GuardedArrays::make(const Problem &problem, Edge edge) {
  GuardedArrays out;
  for (std::size_t i = 0; i < problem.inputs.size(); ++i)
    if (auto ok = out.add(i, true, problem.inputs[i], edge); !ok) return tl::unexpected(ok.error());
  for (std::size_t i = 0; i < problem.outputs.size(); ++i) {
    TensorView description;
    if (const auto &spec = problem.outputs[i])
      description = TensorView(nullptr, spec->dtype, spec->shape, spec->all_strides());
    if (auto ok = out.add(i, false, description, edge); !ok) return tl::unexpected(ok.error());
  }
  return out;
}

Status GuardedArrays::add(std::size_t slot, bool input, const TensorView &like, Edge edge) {
  Array array;
  array.slot = slot;
  array.input = input;
  array.view = like;
  if (like.present() && like.elements() > 0) {
    const Extent extent = extent_of(like);
    const auto bytes = static_cast<std::size_t>(extent.high - extent.low);
    const std::size_t page = page_size();
    const auto rounded = checked_add(bytes, 3 * page - 1);
    if (!rounded) return fail(ErrorCode::overflow, "an array is too large to be guarded");
    const std::size_t mapped = *rounded / page * page;
    void *memory =
        mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return fail(ErrorCode::out_of_memory, "no memory for guarded arrays");
    array.mapping = static_cast<std::byte *>(memory);
    array.mapped = mapped;
    std::byte *const inside = array.mapping + page;
    const std::size_t room = mapped - 2 * page;
    array.bytes = bytes;
    array.data = edge == Edge::begin ? inside : inside + room - bytes;
    std::memset(inside, kCanary, room);
    if (input) std::memcpy(array.data, like.data<std::byte>() + extent.low, bytes);
    sy_tensor &raw = array.view.raw();
    raw.handle = array.data;
    raw.byte_offset = static_cast<std::uint64_t>(-extent.low);
    raw.byte_size = bytes;
    if (mprotect(array.mapping, page, PROT_NONE) != 0 ||
        mprotect(inside + room, page, PROT_NONE) != 0 ||
        (input && mprotect(inside, room, PROT_READ) != 0)) {
      munmap(array.mapping, mapped);
      return fail(ErrorCode::out_of_memory, "guard pages cannot be made");
    }
  }
  arrays_.push_back(array);
  return {};
}

GuardedArrays::GuardedArrays(GuardedArrays &&other) noexcept
    : arrays_(std::exchange(other.arrays_, {})) {}

GuardedArrays::~GuardedArrays() {
  for (const Array &a : arrays_)
    if (a.mapping != nullptr) munmap(a.mapping, a.mapped);
}

void GuardedArrays::bind(const Problem &problem, CallFrame &frame) const noexcept {
  for (const Array &a : arrays_) {
    if (a.input)
      frame.input(a.slot, a.view);
    else
      frame.output(a.slot, a.view);
  }
  frame.call().params = problem.params.data();
  frame.call().params_size = problem.params.size();
}

std::optional<std::size_t> GuardedArrays::overrun() const noexcept {
  for (const Array &a : arrays_) {
    if (a.input || a.mapping == nullptr) continue;
    const std::byte *const inside = a.mapping + page_size();
    const std::byte *const end = a.mapping + a.mapped - page_size();
    if (!intact(inside, a.data) || !intact(a.data + a.bytes, end)) return a.slot;
  }
  return std::nullopt;
}

}  // namespace switchyard
