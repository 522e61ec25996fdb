// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Calls in shared memory, for plugins that live in a worker for good. A socket carries short
/// messages; descriptions and data lie in one memory file that both sides map.

#include <switchyard/plugin.h>
#include <cstdint>
#include <optional>
#include <switchyard/tensor.hpp>

#include "base/call_frame.hpp"

namespace switchyard::remote {

inline constexpr int kSocket = 3, kMemory = 4;  ///< the worker's descriptors

enum class Ask : std::uint32_t { supports = 1, estimate = 2, run = 3, progress = 4 };

/// To the worker. `bytes` is the size of the memory file.
struct Message {
  Ask ask{};
  std::uint32_t kernel = 0;
  std::uint64_t bytes = 0;
  std::int32_t answer = 0;  ///< of the progress hook
  std::uint32_t reserved = 0;
};

/// From the worker: an answer, or (progress) how far it is.
struct Reply {
  Ask ask{};
  std::int32_t status = 0;
  std::uint64_t value = 0;
  double done = 0;
  sy_error error{};
};

/// A call at the begin of the memory. Handles of tensors are offsets, 0 = none.
struct WireCall {
  std::uint32_t flags = 0, n_inputs = 0, n_outputs = 0, threads = 0;
  std::uint32_t has_progress = 0, reserved = 0;
  std::uint64_t params_size = 0;
  bool present[2 * CallFrame::kSlots] = {};
  sy_tensor tensors[2 * CallFrame::kSlots] = {};
  std::byte params[256] = {};
};
inline constexpr std::uint64_t kData = (sizeof(WireCall) + 4095) / 4096 * 4096;

/// Bytes of the memory that the call needs with its data; nullopt when it cannot be sent.
std::optional<std::uint64_t> wire_size(const sy_call &call) noexcept;
/// Writes description and inputs to `memory`; without `data` all handles are none.
void send_call(const sy_call &call, bool data, std::byte *memory) noexcept;
/// Copies the outputs from `memory` to where the call wants them.
void fetch_outputs(const sy_call &call, const std::byte *memory) noexcept;
/// The worker's view of the call.
void open_call(std::byte *memory, CallFrame &frame) noexcept;

}  // namespace switchyard::remote
