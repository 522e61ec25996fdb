// SPDX-License-Identifier: Apache-2.0
#pragma once
/// One call on a device: arrays go there, kernels run in pieces, results come back. After the first
/// failure every step does nothing, so that callers need to look once, at the end.

#include <vector>

#include "device.hpp"

namespace switchyard::opencl {

/// Where a kernel finds a tensor: element (i, ...) lies at `offset` bytes + size * sum(i * stride).
struct Array {
  cl_mem mem = nullptr;
  std::int64_t offset = 0;
  std::int32_t rank = 0;
  std::int64_t shape[SY_MAX_RANK] = {}, strides[SY_MAX_RANK] = {};

  bool present() const { return mem != nullptr; }
};

/// A call's tensors; NULL where it has none there.
inline const sy_tensor *input_of(const sy_call &call, std::uint32_t slot) {
  return slot < call.n_inputs ? call.inputs[slot] : nullptr;
}
inline const sy_tensor *output_of(const sy_call &call, std::uint32_t slot) {
  return slot < call.n_outputs ? call.outputs[slot] : nullptr;
}

inline std::uint64_t bytes_of(std::int64_t count, std::uint64_t size) {
  return static_cast<std::uint64_t>(count) * size;
}

class Job {
 public:
  /// Takes the device for the life of the job and starts it if need be.
  Job(Device &device, const sy_call &call, sy_error *error);
  ~Job();
  Job(const Job &) = delete;
  Job &operator=(const Job &) = delete;

  bool ok() const { return !failure_.any(); }
  Failure &failure() { return failure_; }
  Device &device() const { return device_; }
  const sy_call &call() const { return call_; }

  /// An absent tensor gives an absent array, whose `mem` may be passed to kernels nevertheless
  /// through argument().
  Array input(const sy_tensor *tensor);
  Array output(const sy_tensor *tensor);
  /// Memory until the job ends.
  cl_mem scratch(std::uint64_t bytes);
  void fill(cl_mem mem, std::uint32_t word, std::uint64_t bytes);
  /// Small results, at once.
  void read(cl_mem mem, std::uint64_t offset, void *to, std::uint64_t bytes);
  void write(cl_mem mem, std::uint64_t offset, const void *from, std::uint64_t bytes);

  /// Picks the kernel that the next arguments are for. Arguments 0 and 1 of every kernel are the
  /// first tile and the end (ulong); run() sets them.
  void kernel(const char *source, const std::string &options, const char *name);
  Job &arg(const Array &array);  ///< buffer, then its byte offset (long)
  Job &arg(cl_mem mem);
  Job &arg(std::int32_t value) { return raw(&value, sizeof(value)); }
  Job &arg(std::int64_t value) { return raw(&value, sizeof(value)); }
  Job &arg(float value) { return raw(&value, sizeof(value)); }
  Job &arg(double value) { return raw(&value, sizeof(value)); }
  Job &dims(const std::int64_t (&values)[SY_MAX_RANK]) { return raw(values, sizeof(values)); }

  /// How much of a call's work a loop is, and how much was done before it.
  struct Share {
    double done = 0, part = 1;
  };
  /// Runs the kernel over tiles begin..end. `tile_ns` guesses the time of a tile on one compute
  /// unit: between pieces of a few milliseconds the host may cancel.
  void run(std::uint64_t begin, std::uint64_t end, double tile_ns, Share share = {0, 1});

  /// Work-items of a group, as in common.cl.
  std::uint32_t group() const { return device_.about().is_cpu() ? 1 : 64; }

  /// Waits for what was launched, of calls that launch again and again.
  void settle();
  /// Asks the host whether to go on: false, and a failure, where not. `done`: 0 to 1.
  bool poll(double done);

  /// Waits, brings results back. The call's status, told in its error.
  std::int32_t finish();

 private:
  struct Output {
    const sy_tensor *tensor;
    Array array;
    bool in_place;
    std::uint64_t mapped_bytes;
  };

  Job &raw(const void *value, std::size_t bytes);
  Array whole(const sy_tensor &tensor, bool written);
  Array copied(const sy_tensor &tensor, bool written);
  Array on_device(const sy_tensor &tensor);
  void upload(const sy_tensor &from, const Array &to);
  void download(const Array &from, const sy_tensor &to);
  void note_transfer(cl_event event, std::uint64_t bytes, bool up);
  void wait(cl_event event, bool is_kernel);

  Device &device_;
  const sy_call &call_;
  sy_error *error_;
  std::unique_lock<std::mutex> lock_;
  Failure failure_;
  std::vector<Device::Memory> scratch_;
  std::vector<cl_mem> wrapped_;
  std::vector<Output> outputs_;
  std::vector<cl_event> kernels_run_;
  cl_kernel kernel_ = nullptr;
  cl_uint next_ = 0;
  cl_mem nothing_ = nullptr;
};

/// The bytes a tensor's elements span, from handle + *first; 0 for an empty one.
std::uint64_t span_of(const sy_tensor &tensor, std::uint64_t *first);

}  // namespace switchyard::opencl
