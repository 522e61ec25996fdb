// SPDX-License-Identifier: Apache-2.0
#pragma once
/// One call on a device: its arrays, launches and results. Everything is ordered by the device's
/// stream; memory that the call takes goes back to the pool when it ends.

#include <type_traits>
#include <vector>

#include "device.hpp"

namespace switchyard::cuda {

/// An array on the device: element (i0, i1, ...) at data + sum of i_k * strides[k] elements.
struct Array {
  CUdeviceptr data = 0;
  std::int64_t shape[SY_MAX_RANK] = {}, strides[SY_MAX_RANK] = {};
  std::int32_t rank = 0;

  template <class T>
  T *as() const {
    return reinterpret_cast<T *>(data);
  }
  /// Elements follow each other in logical order.
  bool dense() const;
};

/// Of dimensions with stride 0 in host memory: one copy on the device, or all.
enum class Repeats { keep, expand };

class Work {
 public:
  /// Waits for its turn on the device.
  Work(Device &device, const sy_call &call);
  ~Work();
  Work(const Work &) = delete;
  Work &operator=(const Work &) = delete;

  bool ok() const { return !failure_.any(); }
  Failure &failure() { return failure_; }
  Device &device() { return device_; }

  /// Memory of the call, contents undefined or zero bytes; 0 after a failure.
  CUdeviceptr take(std::uint64_t bytes);
  CUdeviceptr take_zeroed(std::uint64_t bytes);
  template <class T>
  T *take(std::int64_t count, bool zeroed = false) {
    const std::uint64_t bytes = static_cast<std::uint64_t>(count) * sizeof(T);
    return reinterpret_cast<T *>(zeroed ? take_zeroed(bytes) : take(bytes));
  }

  /// A tensor of the call on the device: sent there, or where it is. An absent one has data 0.
  Array input(const sy_tensor *tensor, Repeats repeats = Repeats::expand);
  /// The same into memory that outlives the call; dense, where it is on the device already.
  Array input_at(const sy_tensor *tensor, CUdeviceptr memory);
  /// Where the call is to write a tensor; finish() brings it to the host.
  Array output(const sy_tensor *tensor);
  /// A dense array that holds an output's elements; finish() brings it where the caller wants it.
  void result(const sy_tensor *tensor, const void *from);

  /// Runs a kernel of blocks x threads.
  struct Grid {
    std::int64_t x = 1, y = 1, z = 1;
  };
  template <class Arguments>
  void launch(Family family, const char *name, Grid grid, unsigned threads, unsigned shared,
              const Arguments &arguments) {
    static_assert(std::is_trivially_copyable_v<Arguments>);
    launch_bytes(family, name, grid, threads, shared, &arguments);
  }

  /// From here on kernels run: what follows counts as their time.
  void computing() { device_.mark(Device::kUploaded, failure_); }
  /// Waits, then copies from the device.
  bool fetch(void *to, CUdeviceptr from, std::uint64_t bytes);
  void fill(CUdeviceptr memory, unsigned char value, std::uint64_t bytes);
  void fill_zero(CUdeviceptr memory, std::uint64_t bytes) { fill(memory, 0, bytes); }
  void copy(CUdeviceptr to, CUdeviceptr from, std::uint64_t bytes);
  /// Asks the host whether to go on.
  bool poll(double done);

  /// Brings the outputs to the host; the call's status.
  std::int32_t finish(sy_error *error);
  /// The status as it is, nothing brought.
  std::int32_t status(sy_error *error) const;

 private:
  struct Pending {
    const sy_tensor *tensor;
    CUdeviceptr from;
  };
  void launch_bytes(Family family, const char *name, Grid grid, unsigned threads, unsigned shared,
                    const void *arguments);
  void send(const sy_tensor &tensor, CUdeviceptr to, Repeats repeats);
  void receive(const sy_tensor &tensor, CUdeviceptr from);
  bool drain(double done);

  Device &device_;
  const sy_call &call_;
  std::unique_lock<std::mutex> lock_;
  Failure failure_;
  bool entered_ = false;
  std::vector<CUdeviceptr> memory_;
  std::vector<Pending> outputs_;
};

/// Elements of all dimensions, or of those that are not repeated.
std::int64_t element_count(const sy_tensor &tensor, Repeats repeats = Repeats::expand) noexcept;
/// Host memory, or memory of this instance?
bool reachable(const sy_tensor *tensor, int device) noexcept;

}  // namespace switchyard::cuda
