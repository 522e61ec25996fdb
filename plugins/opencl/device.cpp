// SPDX-License-Identifier: Apache-2.0
#include "device.hpp"

#include <pthread.h>
#include <stdlib.h>

#include <cstring>

namespace switchyard::opencl {
namespace {

/// Drivers keep threads and connections that a child process does not have.
std::atomic<bool> forked{false};

void watch_forks() {
  static std::once_flag once;
  std::call_once(once, [] {
    pthread_atfork(nullptr, nullptr, [] { forked.store(true, std::memory_order_relaxed); });
  });
}

bool variable_is(const char *name, const char *value) {
  const char *text = secure_getenv(name);
  return text != nullptr && std::strcmp(text, value) == 0;
}

/// For tests: the kernels and transfers of a graphics card on a processor's device.
Description adjusted(Description about) {
  if (variable_is("SWITCHYARD_OPENCL_AS", "gpu")) {
    about.type = CL_DEVICE_TYPE_GPU;
    about.unified = false;
  }
  if (variable_is("SWITCHYARD_OPENCL_ZERO_COPY", "0")) about.unified = false;
  return about;
}

/// Unused memory that is kept for the next call, as a share of the device's.
constexpr std::uint64_t kKeptShare = 8;

}  // namespace

Device::Device(const Description &about, const sy_host *host)
    : about_(adjusted(about)), host_(host), zero_copy_(about_.unified) {}

Device::~Device() {
  if (!started_ || forked.load(std::memory_order_relaxed)) return;
  for (auto &[key, kernel] : kernels_)
    if (kernel != nullptr) api().clReleaseKernel(kernel);
  for (auto &[key, built] : programs_)
    if (built.program != nullptr) {
      if (!lost_) save_program(built.program, built.unsaved);
      api().clReleaseProgram(built.program);
    }
  trim();
  if (staging_ != nullptr) {
    if (staged_ != nullptr)
      api().clEnqueueUnmapMemObject(queue_, staging_, staged_, 0, nullptr, nullptr);
    api().clFinish(queue_);
    api().clReleaseMemObject(staging_);
  }
  api().clReleaseCommandQueue(queue_);
  api().clReleaseContext(context_);
}

const char *Device::dead() const noexcept {
  if (lost_.load(std::memory_order_relaxed)) return "the device was lost";
  if (started_.load(std::memory_order_relaxed) && forked.load(std::memory_order_relaxed))
    return "the process has forked since the OpenCL driver was started";
  return nullptr;
}

bool Device::start(Failure &failure) {
  if (const char *why = dead()) {
    failure.set(SY_E_DEVICE_LOST, why);
    return false;
  }
  if (started_) return true;
  cl_platform_id platform = nullptr;
  device_ = find_device(about_, platform);
  if (device_ == nullptr) {
    failure.set(SY_E_DEVICE_LOST, "OpenCL no longer offers the device " + about_.name +
                                      " of platform " + about_.platform + " in this process");
    return false;
  }
  const cl_context_properties properties[] = {CL_CONTEXT_PLATFORM,
                                              reinterpret_cast<cl_context_properties>(platform), 0};
  cl_int code = CL_SUCCESS;
  context_ = api().clCreateContext(properties, 1, &device_, nullptr, nullptr, &code);
  if (!failure.check(code, "creating a context")) return false;
  queue_ = api().clCreateCommandQueue(context_, device_, CL_QUEUE_PROFILING_ENABLE, &code);
  if (!failure.check(code, "creating a command queue")) {
    api().clReleaseContext(context_);
    return false;
  }
  watch_forks();
  started_ = true;
  return true;
}

cl_program Device::program(const char *source, const std::string &options, Failure &failure) {
  Program &known = programs_[std::string(source) + " " + options];
  if (known.program == nullptr && !known.failure.any())
    known.program = build_program(context_, device_, about_, host_, source, options, totals_,
                                  known.unsaved, known.failure);
  if (known.program == nullptr) failure.set(known.failure.code, known.failure.text);
  return known.program;
}

cl_kernel Device::kernel(const char *source, const std::string &options, const char *name,
                         Failure &failure) {
  if (failure.any()) return nullptr;
  cl_kernel &known = kernels_[std::string(source) + " " + options + " " + name];
  if (known != nullptr) return known;
  const cl_program built = program(source, options, failure);
  if (built == nullptr) return nullptr;
  cl_int code = CL_SUCCESS;
  const cl_kernel made = api().clCreateKernel(built, name, &code);
  if (failure.check(code, "creating a kernel")) known = made;
  return known;
}

Device::Memory Device::take(std::uint64_t bytes, Failure &failure) {
  if (failure.any()) return {};
  // The smallest piece that fits without wasting more than as much again.
  std::size_t best = free_.size();
  for (std::size_t i = 0; i < free_.size(); ++i)
    if (free_[i].bytes >= bytes && free_[i].bytes / 2 <= bytes + 4096 &&
        (best == free_.size() || free_[i].bytes < free_[best].bytes))
      best = i;
  if (best != free_.size()) {
    const Memory found = free_[best];
    free_.erase(free_.begin() + static_cast<std::ptrdiff_t>(best));
    free_bytes_ -= found.bytes;
    return found;
  }
  const std::uint64_t rounded = (bytes + 4095) & ~std::uint64_t{4095};
  if (rounded < bytes) {
    failure.set(SY_E_OVERFLOW, "a buffer's size overflows 64 bits");
    return {};
  }
  Memory made{nullptr, rounded == 0 ? 4096 : rounded};
  cl_int code = CL_SUCCESS;
  for (int attempt = 0; attempt < 2; ++attempt) {
    made.mem = api().clCreateBuffer(context_, CL_MEM_READ_WRITE,
                                    static_cast<std::size_t>(made.bytes), nullptr, &code);
    if (code == CL_SUCCESS) return made;
    trim();
  }
  failure.check(code, ("allocating " + std::to_string(bytes) + " bytes on the device").c_str());
  return {};
}

void Device::give(Memory memory) {
  if (memory.mem == nullptr) return;
  if (free_bytes_ + memory.bytes > about_.memory / kKeptShare) {
    api().clReleaseMemObject(memory.mem);
    return;
  }
  free_.push_back(memory);
  free_bytes_ += memory.bytes;
}

void Device::trim() {
  for (const Memory &m : free_) api().clReleaseMemObject(m.mem);
  free_.clear();
  free_bytes_ = 0;
}

char *Device::staging(Failure &failure) {
  if (staged_ != nullptr || failure.any()) return staged_;
  cl_int code = CL_SUCCESS;
  staging_ = api().clCreateBuffer(context_, CL_MEM_READ_WRITE | CL_MEM_ALLOC_HOST_PTR,
                                  kStagingBytes, nullptr, &code);
  if (!failure.check(code, "allocating pinned memory")) return nullptr;
  void *p = api().clEnqueueMapBuffer(queue_, staging_, CL_TRUE, CL_MAP_READ | CL_MAP_WRITE, 0,
                                     kStagingBytes, 0, nullptr, nullptr, &code);
  if (failure.check(code, "mapping pinned memory")) staged_ = static_cast<char *>(p);
  return staged_;
}

}  // namespace switchyard::opencl
