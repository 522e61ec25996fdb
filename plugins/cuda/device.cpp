// SPDX-License-Identifier: Apache-2.0
#include "device.hpp"

#include <unistd.h>

#include <cstdio>
#include <failure.hpp>

namespace switchyard::cuda {

std::int32_t describe(const Driver &driver, int number, Description &out, sy_error *error) {
  const auto attribute = [&](int which, int &value) {
    return driver.cuDeviceGetAttribute(&value, which, out.device) == kSuccess;
  };
  std::size_t memory = 0;
  out.number = number;
  if (driver.cuDeviceGet(&out.device, number) != kSuccess ||
      driver.cuDeviceGetName(out.name, sizeof out.name, out.device) != kSuccess ||
      driver.cuDeviceTotalMem(&memory, out.device) != kSuccess || !attribute(kMajor, out.major) ||
      !attribute(kMinor, out.minor) || !attribute(kProcessors, out.processors) ||
      !attribute(kSharedMemory, out.shared_bytes) ||
      driver.cuDriverGetVersion(&out.driver_version) != kSuccess)
    return cpu::failure(error, SY_E_HARDWARE, "the CUDA driver does not describe the device");
  out.memory_bytes = memory;
  return SY_OK;
}

bool usable(const Driver &driver, const Description &about, sy_error *reason) {
  char text[200];
  if (about.major < 8) {
    std::snprintf(text, sizeof text, "%s has compute capability %d.%d; 8.0 or later is needed",
                  about.name, about.major, about.minor);
    cpu::failure(reason, SY_E_HARDWARE, text);
    return false;
  }
  int pools = 0;
  if (driver.cuDeviceGetAttribute(&pools, kPools, about.device) != kSuccess || pools == 0) {
    std::snprintf(text, sizeof text, "%s: its driver offers no memory pools", about.name);
    cpu::failure(reason, SY_E_HARDWARE, text);
    return false;
  }
  return true;
}

Device::~Device() {
  if (context_ == nullptr || process_ != getpid()) return;
  if (driver_.cuCtxPushCurrent(context_) == kSuccess) {
    if (stream_ != nullptr) driver_.cuStreamSynchronize(stream_);
    for (char *bytes : staging_.bytes)
      if (bytes != nullptr) driver_.cuMemFreeHost(bytes);
    for (CUevent event : staging_.free)
      if (event != nullptr) driver_.cuEventDestroy(event);
    for (CUevent event : marks_)
      if (event != nullptr) driver_.cuEventDestroy(event);
    for (CUmodule module : modules_)
      if (module != nullptr) driver_.cuModuleUnload(module);
    if (stream_ != nullptr) driver_.cuStreamDestroy(stream_);
    if (pool_ != nullptr) driver_.cuMemPoolTrimTo(pool_, 0);
    leave();
  }
  driver_.cuDevicePrimaryCtxRelease(about_.device);
}

const char *Device::dead() const noexcept {
  if (lost_.load(std::memory_order_relaxed)) return "the device was lost in an earlier call";
  const int process = process_.load(std::memory_order_relaxed);
  if (process != 0 && process != getpid())
    return "this process is a fork of one that used CUDA, which does not survive a fork";
  return nullptr;
}

bool Device::check(CUresult result, const char *what, Failure &failure) {
  if (result == kSuccess) return true;
  const char *name = nullptr;
  driver_.cuGetErrorName(result, &name);
  const std::int32_t status = status_of(result);
  if (status == SY_E_DEVICE_LOST) lose();
  failure.set(status, std::string(about_.name) + ": " + what +
                          " failed: " + (name != nullptr ? name : "unknown error") + " (" +
                          std::to_string(result) + ")");
  return false;
}

bool Device::enter(Failure &failure) {
  if (const char *why = dead(); why != nullptr) {
    failure.set(SY_E_DEVICE_LOST, std::string(about_.name) + ": " + why);
    return false;
  }
  if (context_ == nullptr) {
    if (!check(driver_.cuDevicePrimaryCtxRetain(&context_, about_.device), "making a context",
               failure)) {
      context_ = nullptr;
      return false;
    }
    process_ = getpid();
  }
  if (!check(driver_.cuCtxPushCurrent(context_), "entering the context", failure)) return false;
  if (stream_ != nullptr) return true;
  std::uint64_t keep = ~std::uint64_t{0};  // freed memory stays in the pool until it is trimmed
  bool ready = check(driver_.cuDeviceGetDefaultMemPool(&pool_, about_.device),
                     "finding the memory pool", failure) &&
               check(driver_.cuMemPoolSetAttribute(pool_, kPoolThreshold, &keep),
                     "setting up the memory pool", failure);
  for (CUevent &event : marks_)
    ready = ready && (event != nullptr || check(driver_.cuEventCreate(&event, kDefaultEvent),
                                                "making an event", failure));
  ready =
      ready && check(driver_.cuStreamCreate(&stream_, kNonBlocking), "making a stream", failure);
  if (!ready) leave();
  return ready;
}

void Device::leave() noexcept {
  CUcontext popped = nullptr;
  driver_.cuCtxPopCurrent(&popped);
}

CUfunction Device::function(Family family, const char *name, unsigned shared, Failure &failure) {
  auto found = functions_.find(name);
  if (found == functions_.end()) {
    CUmodule &module = modules_[static_cast<int>(family)];
    const Image image = image_of(family);
    CUfunction function = nullptr;
    if (module == nullptr &&
        !check(driver_.cuModuleLoadData(&module, image.data), image.name, failure)) {
      module = nullptr;
      return nullptr;
    }
    if (!check(driver_.cuModuleGetFunction(&function, module, name), name, failure)) return nullptr;
    found = functions_.emplace(name, Function{function, 48u << 10}).first;
  }
  Function &f = found->second;
  if (shared > f.shared) {
    if (!check(driver_.cuFuncSetAttribute(f.function, kFunctionShared, static_cast<int>(shared)),
               "asking for shared memory", failure))
      return nullptr;
    f.shared = shared;
  }
  return f.function;
}

CUdeviceptr Device::allocate(std::uint64_t bytes, Failure &failure) {
  CUdeviceptr memory = 0;
  const std::size_t size = bytes != 0 ? bytes : 1;
  CUresult result = driver_.cuMemAllocAsync(&memory, size, stream_);
  if (result == kOutOfMemory) {  // once more with what other calls left in the pool
    driver_.cuStreamSynchronize(stream_);
    driver_.cuMemPoolTrimTo(pool_, 0);
    result = driver_.cuMemAllocAsync(&memory, size, stream_);
  }
  return check(result, "allocating device memory", failure) ? memory : 0;
}

void Device::free(CUdeviceptr memory) noexcept {
  if (memory != 0) driver_.cuMemFreeAsync(memory, stream_);
}

Device::Staging *Device::staging(Failure &failure) {
  for (int i = 0; i < 2; ++i) {
    void *bytes = nullptr;
    if (staging_.free[i] == nullptr &&
        !check(driver_.cuEventCreate(&staging_.free[i], kDefaultEvent), "making an event", failure))
      return nullptr;
    if (staging_.bytes[i] != nullptr) continue;
    if (!check(driver_.cuMemAllocHost(&bytes, kStagingBytes), "allocating pinned memory", failure))
      return nullptr;
    staging_.bytes[i] = static_cast<char *>(bytes);
  }
  return &staging_;
}

void Device::mark(Mark mark, Failure &failure) {
  if (!failure.any()) check(driver_.cuEventRecord(marks_[mark], stream_), "timing", failure);
}

void Device::count_times() noexcept {
  float sent = 0, computed = 0, received = 0;  // milliseconds
  if (driver_.cuEventElapsedTime(&sent, marks_[kBegin], marks_[kUploaded]) != kSuccess ||
      driver_.cuEventElapsedTime(&computed, marks_[kUploaded], marks_[kComputed]) != kSuccess ||
      driver_.cuEventElapsedTime(&received, marks_[kComputed], marks_[kEnd]) != kSuccess)
    return;
  totals_.kernel_ns += static_cast<std::uint64_t>(static_cast<double>(computed) * 1e6);
  totals_.transfer_ns += static_cast<std::uint64_t>(static_cast<double>(sent + received) * 1e6);
}

}  // namespace switchyard::cuda
