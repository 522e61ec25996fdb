// SPDX-License-Identifier: Apache-2.0
#include "worker/remote_wire.hpp"

#include <algorithm>
#include <cstring>

#include "base/checked.hpp"

namespace switchyard::remote {
namespace {

/// Bytes of a tensor's elements relative to the first one.
struct Extent {
  std::int64_t low = 0, high = 0;
};

Extent extent_of(const sy_tensor &t) noexcept {
  Extent e;
  const auto size = static_cast<std::int64_t>(size_of(t.dtype));
  for (int i = 0; i < t.rank; ++i) {
    const std::int64_t reach = (t.shape[i] - 1) * t.strides[i] * size;
    (reach < 0 ? e.low : e.high) += reach;
  }
  e.high += size;
  return e;
}

bool has_data(const sy_tensor *t) noexcept {
  return t != nullptr && t->handle != nullptr && TensorView(*t).elements() > 0;
}

/// Where the tensors' bytes lie: one behind the other, each as far off a cache line as at home.
class Plan {
 public:
  std::optional<std::uint64_t> next(const sy_tensor &t) noexcept {
    const Extent e = extent_of(t);
    const auto home =
        reinterpret_cast<std::uintptr_t>(TensorView(t).data()) + static_cast<std::uintptr_t>(e.low);
    const std::uint64_t start = (end_ + 63) / 64 * 64 + home % 64;
    const auto end = checked_add(start, static_cast<std::uint64_t>(e.high - e.low));
    if (!end || *end > std::uint64_t{1} << 46) return std::nullopt;
    end_ = *end;
    return start;
  }
  std::uint64_t end() const noexcept { return end_; }

 private:
  std::uint64_t end_ = kData;
};

/// Calls copy(offset in bytes, bytes) for each run of adjacent elements.
template <class Copy>
void each_run(const sy_tensor &t, Copy &&copy) noexcept {
  const auto size = static_cast<std::int64_t>(size_of(t.dtype));
  int inner = t.rank;
  std::int64_t run = 1;
  while (inner > 0 && (t.strides[inner - 1] == run || t.shape[inner - 1] == 1))
    run *= t.shape[--inner];
  std::int64_t index[SY_MAX_RANK] = {};
  while (true) {
    std::int64_t offset = 0;
    for (int i = 0; i < inner; ++i) offset += index[i] * t.strides[i];
    copy(offset * size, static_cast<std::size_t>(run * size));
    int at = inner - 1;
    for (; at >= 0; --at) {
      if (++index[at] < t.shape[at] && t.strides[at] != 0) break;
      index[at] = 0;
    }
    if (at < 0) return;
  }
}

const sy_tensor *slot(const sy_call &call, std::uint32_t i) noexcept {
  return i < call.n_inputs ? call.inputs[i] : call.outputs[i - call.n_inputs];
}

}  // namespace

std::optional<std::uint64_t> wire_size(const sy_call &call) noexcept {
  if (call.n_inputs > CallFrame::kSlots || call.n_outputs > CallFrame::kSlots ||
      call.params_size > sizeof(WireCall::params))
    return std::nullopt;
  Plan plan;
  for (std::uint32_t i = 0; i < call.n_inputs + call.n_outputs; ++i) {
    const sy_tensor *t = slot(call, i);
    if (t != nullptr && t->device_kind != SY_DEVICE_HOST) return std::nullopt;
    if (has_data(t) && !plan.next(*t)) return std::nullopt;
  }
  return plan.end();
}

void send_call(const sy_call &call, bool data, std::byte *memory) noexcept {
  auto &wire = *reinterpret_cast<WireCall *>(memory);
  wire.flags = call.flags;
  wire.n_inputs = call.n_inputs;
  wire.n_outputs = call.n_outputs;
  wire.threads = call.threads;
  wire.has_progress = call.progress != nullptr ? 1 : 0;
  wire.params_size = call.params_size;
  std::memcpy(wire.params, call.params, call.params_size);
  Plan plan;
  for (std::uint32_t i = 0; i < call.n_inputs + call.n_outputs; ++i) {
    const sy_tensor *t = slot(call, i);
    wire.present[i] = t != nullptr;
    if (t == nullptr) continue;
    wire.tensors[i] = *t;
    wire.tensors[i].handle = nullptr;
    if (!data || !has_data(t)) continue;
    const std::uint64_t start = *plan.next(*t);
    const Extent e = extent_of(*t);
    wire.tensors[i].handle = reinterpret_cast<void *>(start);
    wire.tensors[i].byte_offset = static_cast<std::uint64_t>(-e.low);
    wire.tensors[i].byte_size = static_cast<std::uint64_t>(e.high - e.low);
    if (i >= call.n_inputs) continue;
    const auto *from = TensorView(*t).data<const std::byte>();
    std::byte *to = memory + start - e.low;
    each_run(*t, [&](std::int64_t offset, std::size_t bytes) {
      std::memcpy(to + offset, from + offset, bytes);
    });
  }
}

void fetch_outputs(const sy_call &call, const std::byte *memory) noexcept {
  Plan plan;
  for (std::uint32_t i = 0; i < call.n_inputs + call.n_outputs; ++i) {
    const sy_tensor *t = slot(call, i);
    if (!has_data(t)) continue;
    const std::uint64_t start = *plan.next(*t);
    if (i < call.n_inputs) continue;
    auto *to = TensorView(*t).data<std::byte>();
    const std::byte *from = memory + start - extent_of(*t).low;
    each_run(*t, [&](std::int64_t offset, std::size_t bytes) {
      std::memcpy(to + offset, from + offset, bytes);
    });
  }
}

void open_call(std::byte *memory, CallFrame &frame) noexcept {
  const auto &wire = *reinterpret_cast<const WireCall *>(memory);
  for (std::uint32_t i = 0; i < wire.n_inputs + wire.n_outputs; ++i) {
    if (!wire.present[i]) continue;
    sy_tensor t = wire.tensors[i];
    if (t.handle != nullptr) t.handle = memory + reinterpret_cast<std::uintptr_t>(t.handle);
    if (i < wire.n_inputs)
      frame.input(i, TensorView(t));
    else
      frame.output(i - wire.n_inputs, TensorView(t));
  }
  sy_call &call = frame.call();
  call.flags = wire.flags;
  call.threads = wire.threads;
  call.params = wire.params;
  call.params_size = wire.params_size;
}

}  // namespace switchyard::remote
