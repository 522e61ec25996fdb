// SPDX-License-Identifier: Apache-2.0
#include "registry/candidate.hpp"

#include <cstdlib>
#include <cstring>

#include "base/status_codes.hpp"
#include "host/float_state.hpp"

namespace switchyard {
namespace {

/// A thread's scratch memory: grows to the largest workspace asked for, so that repeated calls
/// allocate nothing.
class Arena {
 public:
  Arena() = default;
  Arena(const Arena &) = delete;
  Arena &operator=(const Arena &) = delete;
  ~Arena() { std::free(memory_); }

  void *get(std::uint64_t bytes) noexcept {
    if (bytes <= size_) return memory_;
    if (bytes > SIZE_MAX / 2) return nullptr;
    const std::size_t rounded = (static_cast<std::size_t>(bytes) + 4095) & ~std::size_t{4095};
    void *grown = std::aligned_alloc(64, rounded);
    if (grown == nullptr) return nullptr;
    std::free(memory_);
    memory_ = grown;
    size_ = rounded;
    return memory_;
  }

 private:
  void *memory_ = nullptr;
  std::size_t size_ = 0;
};

thread_local Arena arena;

}  // namespace

std::int32_t invoke(const Candidate &candidate, sy_call &call, std::uint64_t bytes,
                    sy_error *error) noexcept {
  call.workspace = nullptr;
  call.workspace_size = bytes;
  if (bytes != 0) {
    call.workspace = arena.get(bytes);
    if (call.workspace == nullptr) {
      to_abi(Error{ErrorCode::out_of_memory,
                   "no memory for a workspace of " + std::to_string(bytes) + " bytes",
                   {},
                   0,
                   0,
                   -1,
                   {}},
             error);
      return SY_E_OUT_OF_MEMORY;
    }
  }
  const FloatStateGuard guard;
  return candidate.kernel->run(candidate.kernel, candidate.instance.get(), &call, error);
}

}  // namespace switchyard
