// SPDX-License-Identifier: Apache-2.0
#pragma once
/// A device at work: its context, queue, compiled kernels and free memory. Started by the first
/// call that runs on it.

#include <atomic>
#include <first_failure.hpp>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "devices.hpp"

namespace switchyard::opencl {

struct Failure : cpu::FirstFailure {
  /// Is `code` a success? If not, it is noted as that of `what`.
  bool check(cl_int result, const char *what) {
    if (result == CL_SUCCESS) return true;
    set(status_of(result), std::string(what) + " failed: " + code_text(result));
    return false;
  }
};

/// What a device has done so far, in nanoseconds and bytes; transfers and kernels apart.
struct Totals {
  std::atomic<std::uint64_t> kernel_ns{0}, kernels{0};
  std::atomic<std::uint64_t> transfer_ns{0}, uploaded{0}, downloaded{0};
  std::atomic<std::uint64_t> build_ns{0}, built{0}, from_cache{0};
};

class Device {
 public:
  Device(const Description &about, const sy_host *host);
  ~Device();
  Device(const Device &) = delete;
  Device &operator=(const Device &) = delete;

  const Description &about() const noexcept { return about_; }
  const sy_host *host() const noexcept { return host_; }
  Totals &totals() noexcept { return totals_; }
  /// Tensors in host memory are used where they are.
  bool zero_copy() const noexcept { return zero_copy_; }
  /// Why no call can run any more (the device is lost, the process has forked), or nullptr.
  /// [any-thread]
  const char *dead() const noexcept;

  /// One call at a time; whatever follows is for its holder.
  std::mutex &mutex() noexcept { return mutex_; }

  /// Loads the driver, makes context and queue; does nothing when they are there.
  bool start(Failure &failure);
  /// From then on every call fails.
  void lose() noexcept { lost_.store(true, std::memory_order_relaxed); }

  cl_context context() const noexcept { return context_; }
  cl_command_queue queue() const noexcept { return queue_; }

  /// The kernel `name` of a source built with `options`; nullptr with the reason, which holds the
  /// build log. Compiled once; binaries are kept in the cache folder.
  cl_kernel kernel(const char *source, const std::string &options, const char *name,
                   Failure &failure);

  /// Device memory of at least `bytes`, contents undefined; to be given back.
  struct Memory {
    cl_mem mem = nullptr;
    std::uint64_t bytes = 0;
  };
  Memory take(std::uint64_t bytes, Failure &failure);
  void give(Memory memory);
  /// Gives unused memory back to the driver.
  void trim();

  /// Host memory that the device reads and writes fast; nullptr with the reason.
  static constexpr std::uint64_t kStagingBytes = 8u << 20;
  char *staging(Failure &failure);
  cl_mem staging_buffer() const noexcept { return staging_; }

 private:
  cl_program program(const char *source, const std::string &options, Failure &failure);

  const Description about_;
  const sy_host *const host_;
  const bool zero_copy_;
  std::atomic<bool> lost_{false}, started_{false};
  std::mutex mutex_;
  cl_device_id device_ = nullptr;
  cl_context context_ = nullptr;
  cl_command_queue queue_ = nullptr;
  struct Program {
    cl_program program = nullptr;
    std::string unsaved;  ///< where its binary is still to go
    Failure failure;      ///< why it could not be built: it is not tried again
  };
  std::map<std::string, Program> programs_;
  std::map<std::string, cl_kernel> kernels_;
  std::vector<Memory> free_;
  std::uint64_t free_bytes_ = 0;
  cl_mem staging_ = nullptr;
  char *staged_ = nullptr;
  Totals totals_;
};

/// A program for one device, from the cache or built from source and put there; nullptr with the
/// reason. `options` lack the ones that every program gets. `unsaved`: the file that the program
/// should still be saved to, "" if none. A processor's driver compiles for a launch's own sizes
/// when it is launched; asked for a binary at once, it would compile everything twice over before
/// the first result, so there the binary waits until the device is given up.
cl_program build_program(cl_context context, cl_device_id device, const Description &about,
                         const sy_host *host, const char *source, const std::string &options,
                         Totals &totals, std::string &unsaved, Failure &failure);
void save_program(cl_program program, std::string &file) noexcept;

}  // namespace switchyard::opencl
