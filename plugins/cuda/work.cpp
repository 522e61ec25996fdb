// SPDX-License-Identifier: Apache-2.0
#include "work.hpp"

#include <time.h>

#include <algorithm>
#include <cstring>
#include <failure.hpp>

namespace switchyard::cuda {
namespace {

std::int64_t element_bytes(const sy_tensor &t) { return t.dtype.bits / 8; }
char *first_byte(const sy_tensor &t) { return static_cast<char *>(t.handle) + t.byte_offset; }

bool repeated(const sy_tensor &t, int k, Repeats repeats) {
  return repeats == Repeats::keep && t.strides[k] == 0 && t.shape[k] > 1;
}

/// The runs of adjacent bytes of a tensor in logical order: f(first byte, bytes), false to stop.
template <class F>
void each_run(const sy_tensor &t, Repeats repeats, F f) {
  if (element_count(t) == 0) return;
  std::int64_t extent[SY_MAX_RANK], at[SY_MAX_RANK] = {};
  for (int k = 0; k < t.rank; ++k) extent[k] = repeated(t, k, repeats) ? 1 : t.shape[k];
  int outer = t.rank;
  std::int64_t run = 1;
  for (; outer > 0 && (extent[outer - 1] == 1 || t.strides[outer - 1] == run); --outer)
    run *= extent[outer - 1];
  for (;;) {
    std::int64_t offset = 0;
    for (int k = 0; k < outer; ++k) offset += at[k] * t.strides[k];
    if (!f(first_byte(t) + offset * element_bytes(t), run * element_bytes(t))) return;
    int k = outer - 1;
    for (; k >= 0 && ++at[k] == extent[k]; --k) at[k] = 0;
    if (k < 0) return;
  }
}

Array describe(const sy_tensor &t, Repeats repeats) {
  Array a;
  a.rank = t.rank;
  std::int64_t stride = 1;
  for (int k = t.rank - 1; k >= 0; --k) {
    a.shape[k] = t.shape[k];
    a.strides[k] = repeated(t, k, repeats) ? 0 : stride;
    if (a.strides[k] != 0) stride *= std::max<std::int64_t>(t.shape[k], 1);
  }
  return a;
}

std::int64_t now_ns() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1'000'000'000 + t.tv_nsec;
}

}  // namespace

std::int64_t element_count(const sy_tensor &t, Repeats repeats) noexcept {
  std::int64_t n = 1;
  for (int k = 0; k < t.rank; ++k)
    if (!repeated(t, k, repeats)) n *= t.shape[k];
  return n;
}

bool reachable(const sy_tensor *t, int device) noexcept {
  return t == nullptr || t->device_kind == SY_DEVICE_HOST ||
         (t->device_kind == SY_DEVICE_CUDA && t->device_index == device);
}

bool Array::dense() const {
  std::int64_t stride = 1;
  for (int k = rank - 1; k >= 0; --k) {
    if (shape[k] != 1 && strides[k] != stride) return false;
    stride *= shape[k];
  }
  return true;
}

Work::Work(Device &device, const sy_call &call)
    : device_(device), call_(call), lock_(device.mutex()) {
  entered_ = device_.enter(failure_);
  device_.mark(Device::kBegin, failure_);
  poll(0);
}

Work::~Work() {
  if (!entered_) return;
  for (CUdeviceptr memory : memory_) device_.free(memory);
  device_.leave();
}

CUdeviceptr Work::take(std::uint64_t bytes) {
  if (!ok()) return 0;
  memory_.reserve(memory_.size() + 1);  // so that noting it cannot fail
  const CUdeviceptr memory = device_.allocate(bytes, failure_);
  if (memory != 0) memory_.push_back(memory);
  return memory;
}

CUdeviceptr Work::take_zeroed(std::uint64_t bytes) {
  const CUdeviceptr memory = take(bytes);
  fill_zero(memory, bytes);
  return memory;
}

void Work::fill(CUdeviceptr memory, unsigned char value, std::uint64_t bytes) {
  if (ok() && bytes != 0)
    device_.check(device_.driver().cuMemsetD8Async(memory, value, bytes, device_.stream()),
                  "filling memory", failure_);
}

void Work::copy(CUdeviceptr to, CUdeviceptr from, std::uint64_t bytes) {
  if (ok() && bytes != 0)
    device_.check(device_.driver().cuMemcpyDtoDAsync(to, from, bytes, device_.stream()),
                  "copying on the device", failure_);
}

Array Work::input(const sy_tensor *t, Repeats repeats) {
  if (t == nullptr || !ok()) return {};
  if (t->device_kind == SY_DEVICE_CUDA) {
    Array a;
    a.rank = t->rank;
    std::copy_n(t->shape, SY_MAX_RANK, a.shape);
    std::copy_n(t->strides, SY_MAX_RANK, a.strides);
    a.data = reinterpret_cast<CUdeviceptr>(t->handle) + t->byte_offset;
    return a;
  }
  Array a = describe(*t, repeats);
  a.data = take(static_cast<std::uint64_t>(element_count(*t, repeats) * element_bytes(*t)));
  send(*t, a.data, repeats);
  return a;
}

Array Work::input_at(const sy_tensor *t, CUdeviceptr memory) {
  Array a = describe(*t, Repeats::expand);
  a.data = memory;
  if (t->device_kind == SY_DEVICE_CUDA)
    copy(memory, reinterpret_cast<CUdeviceptr>(t->handle) + t->byte_offset,
         static_cast<std::uint64_t>(element_count(*t) * element_bytes(*t)));
  else
    send(*t, memory, Repeats::expand);
  return a;
}

Array Work::output(const sy_tensor *t) {
  if (t == nullptr || !ok()) return {};
  if (t->device_kind == SY_DEVICE_CUDA) return input(t);
  outputs_.reserve(outputs_.size() + 1);
  Array a = describe(*t, Repeats::expand);
  a.data = take(static_cast<std::uint64_t>(element_count(*t) * element_bytes(*t)));
  outputs_.push_back({t, a.data});
  return a;
}

void Work::result(const sy_tensor *t, const void *from) {
  if (t == nullptr || !ok()) return;
  const auto memory = reinterpret_cast<CUdeviceptr>(from);
  if (t->device_kind == SY_DEVICE_CUDA)
    copy(reinterpret_cast<CUdeviceptr>(t->handle) + t->byte_offset, memory,
         static_cast<std::uint64_t>(element_count(*t) * element_bytes(*t)));
  else
    outputs_.push_back({t, memory});
}

void Work::launch_bytes(Family family, const char *name, Grid grid, unsigned threads,
                        unsigned shared, const void *arguments) {
  if (!ok() || grid.x <= 0 || grid.y <= 0 || grid.z <= 0) return;
  if (grid.x > 0x7FFFFFFF || grid.y > 65535 || grid.z > 65535) {
    failure_.set(SY_E_UNSUPPORTED, std::string(name) + ": more blocks than a launch may have");
    return;
  }
  CUfunction function = device_.function(family, name, shared, failure_);
  if (function == nullptr) return;
  void *pointers[] = {const_cast<void *>(arguments)};
  device_.check(
      device_.driver().cuLaunchKernel(function, static_cast<unsigned>(grid.x),
                                      static_cast<unsigned>(grid.y), static_cast<unsigned>(grid.z),
                                      threads, 1, 1, shared, device_.stream(), pointers, nullptr),
      name, failure_);
  ++device_.totals().kernels;
}

void Work::send(const sy_tensor &t, CUdeviceptr to, Repeats repeats) {
  if (!ok()) return;
  Device::Staging *staging = device_.staging(failure_);
  if (staging == nullptr) return;
  const Driver &driver = device_.driver();
  std::uint64_t filled = 0, sent = 0;
  // Fills one piece while the other is on its way.
  const auto open = [&] {
    return device_.check(driver.cuEventSynchronize(staging->free[staging->next]), "copying",
                         failure_);
  };
  const auto flush = [&] {
    char *piece = staging->bytes[staging->next];
    if (!device_.check(driver.cuMemcpyHtoDAsync(to + sent, piece, filled, device_.stream()),
                       "sending to the device", failure_) ||
        !device_.check(driver.cuEventRecord(staging->free[staging->next], device_.stream()),
                       "sending to the device", failure_))
      return false;
    staging->next ^= 1;
    sent += filled;
    filled = 0;
    return poll(0) && open();
  };
  if (!open()) return;
  each_run(t, repeats, [&](const char *from, std::int64_t bytes) {
    for (auto left = static_cast<std::uint64_t>(bytes); left > 0;) {
      const std::uint64_t n = std::min(left, Device::kStagingBytes - filled);
      std::memcpy(staging->bytes[staging->next] + filled, from, n);
      from += n;
      left -= n;
      filled += n;
      if (filled == Device::kStagingBytes && !flush()) return false;
    }
    return true;
  });
  if (ok() && filled != 0) flush();
  device_.totals().to += sent;
}

void Work::receive(const sy_tensor &t, CUdeviceptr from) {
  if (!ok()) return;
  Device::Staging *staging = device_.staging(failure_);
  if (staging == nullptr) return;
  const Driver &driver = device_.driver();
  const auto total = static_cast<std::uint64_t>(element_count(t) * element_bytes(t));
  std::uint64_t asked = 0, taken = 0, have = 0;
  int ask = staging->next, take = staging->next;
  const auto request = [&] {
    const std::uint64_t n = std::min(Device::kStagingBytes, total - asked);
    if (n == 0) return true;
    if (!device_.check(
            driver.cuMemcpyDtoHAsync(staging->bytes[ask], from + asked, n, device_.stream()),
            "bringing results", failure_) ||
        !device_.check(driver.cuEventRecord(staging->free[ask], device_.stream()),
                       "bringing results", failure_))
      return false;
    asked += n;
    ask ^= 1;
    return true;
  };
  if (!request() || !request()) return;
  each_run(t, Repeats::expand, [&](char *to, std::int64_t bytes) {
    for (auto left = static_cast<std::uint64_t>(bytes); left > 0;) {
      if (have == 0) {
        if (!device_.check(driver.cuEventSynchronize(staging->free[take]), "bringing results",
                           failure_))
          return false;
        have = std::min(Device::kStagingBytes, total - taken);
      }
      const std::uint64_t size = std::min(Device::kStagingBytes, total - taken);
      const std::uint64_t offset = size - have;
      const std::uint64_t n = std::min(left, have);
      std::memcpy(to, staging->bytes[take] + offset, n);
      to += n;
      left -= n;
      have -= n;
      if (have != 0) continue;
      taken += size;
      take ^= 1;
      if (!poll(1) || !request()) return false;
    }
    return true;
  });
  device_.totals().from += taken;
}

bool Work::poll(double done) {
  if (ok() && call_.progress != nullptr && call_.progress(call_.progress_arg, done) != 0)
    failure_.set(SY_E_CANCELLED, "cancelled by the progress hook");
  return ok();
}

/// Waits for the stream, asking the host now and then.
bool Work::drain(double done) {
  if (!ok()) return false;
  const Driver &driver = device_.driver();
  if (call_.progress == nullptr)
    return device_.check(driver.cuStreamSynchronize(device_.stream()), "running", failure_);
  const std::int64_t begin = now_ns();
  std::int64_t asked = begin;
  for (;;) {
    const CUresult result = driver.cuStreamQuery(device_.stream());
    if (result != kNotReady) return device_.check(result, "running", failure_);
    const std::int64_t now = now_ns();
    if (now - begin > 200'000) {
      const timespec nap{0, 20'000};
      nanosleep(&nap, nullptr);
    }
    if (now - asked < 2'000'000) continue;
    asked = now;
    if (!poll(done)) return false;
  }
}

bool Work::fetch(void *to, CUdeviceptr from, std::uint64_t bytes) {
  return drain(0.5) &&
         device_.check(device_.driver().cuMemcpyDtoHAsync(to, from, bytes, device_.stream()),
                       "bringing results", failure_) &&
         device_.check(device_.driver().cuStreamSynchronize(device_.stream()), "bringing results",
                       failure_);
}

std::int32_t Work::finish(sy_error *error) {
  device_.mark(Device::kComputed, failure_);
  if (drain(0.9))
    for (const Pending &p : outputs_) receive(*p.tensor, p.from);
  device_.mark(Device::kEnd, failure_);
  if (ok() && device_.check(device_.driver().cuStreamSynchronize(device_.stream()),
                            "finishing the call", failure_))
    device_.count_times();
  return status(error);
}

std::int32_t Work::status(sy_error *error) const {
  return ok() ? SY_OK : cpu::failure(error, failure_.code, failure_.text.c_str(), failure_.index);
}

}  // namespace switchyard::cuda
