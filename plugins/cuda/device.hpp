// SPDX-License-Identifier: Apache-2.0
#pragma once
/// A device at work: context, stream, loaded kernels, counters. Started by the first call.

#include <switchyard/device_memory.h>

#include <atomic>
#include <cstddef>
#include <first_failure.hpp>
#include <map>
#include <mutex>
#include <string>

#include "driver.hpp"

namespace switchyard::cuda {

/// What is known of a device without a context on it.
struct Description {
  CUdevice device = 0;
  int number = 0;  ///< the instance's
  char name[128] = "";
  int major = 0, minor = 0, processors = 0;
  int shared_bytes = 0;  ///< the most a block may have
  int driver_version = 0;
  std::uint64_t memory_bytes = 0;
};
std::int32_t describe(const Driver &driver, int number, Description &out, sy_error *error);
/// Compute capability 8.0 or later, with memory pools: what the kernels are built for.
bool usable(const Driver &driver, const Description &about, sy_error *reason);

using Failure = cpu::FirstFailure;

/// Compiled kernels of a family, for all architectures.
struct Image {
  const void *data;
  const char *name;
};
enum class Family { exact, attention };
Image image_of(Family family) noexcept;

class Device {
 public:
  Device(const Driver &driver, const Description &about) : driver_(driver), about_(about) {}
  ~Device();
  Device(const Device &) = delete;
  Device &operator=(const Device &) = delete;

  const Driver &driver() const noexcept { return driver_; }
  const Description &about() const noexcept { return about_; }
  /// Why no call can run any more, or nullptr. [any-thread]
  const char *dead() const noexcept;
  void lose() noexcept { lost_.store(true, std::memory_order_relaxed); }
  /// One call at a time; what follows is for its holder.
  std::mutex &mutex() noexcept { return mutex_; }

  /// Makes context and stream; does nothing when they are there. Makes the context current; pair
  /// with leave().
  bool enter(Failure &failure);
  void leave() noexcept;

  CUstream stream() const noexcept { return stream_; }
  /// Is `result` a success? If not, it is noted as that of `what`.
  bool check(CUresult result, const char *what, Failure &failure);
  /// The kernel `name`, allowed `shared` bytes of shared memory.
  CUfunction function(Family family, const char *name, unsigned shared, Failure &failure);
  /// Device memory from the stream's pool; 0 with the reason.
  CUdeviceptr allocate(std::uint64_t bytes, Failure &failure);
  void free(CUdeviceptr memory) noexcept;

  /// Two pieces of pinned host memory to copy through, and the events that say they are free.
  static constexpr std::uint64_t kStagingBytes = 4u << 20;
  struct Staging {
    char *bytes[2] = {};
    CUevent free[2] = {};
    int next = 0;
  };
  Staging *staging(Failure &failure);

  enum Mark { kBegin, kUploaded, kComputed, kEnd, kMarks };
  void mark(Mark mark, Failure &failure);
  /// Adds the times between the marks of a finished call.
  void count_times() noexcept;

  struct Totals {
    std::atomic<std::uint64_t> kernels{0}, kernel_ns{0}, transfer_ns{0}, to{0}, from{0};
  };
  Totals &totals() noexcept { return totals_; }

 private:
  struct Function {
    CUfunction function;
    unsigned shared;
  };
  const Driver &driver_;
  const Description about_;
  std::atomic<bool> lost_{false};
  std::atomic<int> process_{0};  ///< that made the context
  std::mutex mutex_;
  CUcontext context_ = nullptr;
  CUstream stream_ = nullptr;
  CUmemoryPool pool_ = nullptr;
  CUmodule modules_[2] = {};
  std::map<std::string, Function, std::less<>> functions_;
  Staging staging_;
  CUevent marks_[kMarks] = {};
  Totals totals_;
};

}  // namespace switchyard::cuda
