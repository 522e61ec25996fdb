// SPDX-License-Identifier: Apache-2.0
/// switchyard.device-memory/1: buffers that stay on the device between calls.
#include <switchyard/device_memory.h>

#include "instance.hpp"

namespace switchyard::opencl {
namespace {

/// Runs f(device, failure) with the device at hand; its failure is the answer.
template <class F>
std::int32_t with_device(sy_instance *instance, sy_error *error, F f) {
  try {
    Device &device = device_of(instance);
    const std::lock_guard lock(device.mutex());
    Failure failure;
    if (device.start(failure)) f(device, failure);
    if (!failure.any()) return SY_OK;
    if (failure.code == SY_E_DEVICE_LOST) device.lose();
    return cpu::failure(error, failure.code, (device.about().name + ": " + failure.text).c_str());
  } catch (...) {
    return cpu::failure(error, SY_E_OUT_OF_MEMORY, "no host memory for the request");
  }
}

std::int32_t allocate(sy_instance *instance, std::uint64_t bytes, void **handle, sy_error *error) {
  return with_device(instance, error, [&](Device &device, Failure &failure) {
    cl_int code = CL_SUCCESS;
    const auto size = static_cast<std::size_t>(bytes != 0 ? bytes : 1);
    cl_mem mem = api().clCreateBuffer(device.context(), CL_MEM_READ_WRITE, size, nullptr, &code);
    if (code != CL_SUCCESS) {
      device.trim();
      mem = api().clCreateBuffer(device.context(), CL_MEM_READ_WRITE, size, nullptr, &code);
    }
    if (failure.check(code, "allocating device memory")) *handle = mem;
  });
}

void release(sy_instance *, void *handle) {
  if (handle != nullptr) api().clReleaseMemObject(static_cast<cl_mem>(handle));
}

std::int32_t upload(sy_instance *instance, void *handle, std::uint64_t offset, const void *from,
                    std::uint64_t bytes, sy_error *error) {
  return with_device(instance, error, [&](Device &device, Failure &failure) {
    if (bytes != 0 && failure.check(api().clEnqueueWriteBuffer(
                                        device.queue(), static_cast<cl_mem>(handle), CL_TRUE,
                                        static_cast<std::size_t>(offset),
                                        static_cast<std::size_t>(bytes), from, 0, nullptr, nullptr),
                                    "sending bytes to the device"))
      device.totals().uploaded += bytes;
  });
}

std::int32_t download(sy_instance *instance, void *handle, std::uint64_t offset, void *to,
                      std::uint64_t bytes, sy_error *error) {
  return with_device(instance, error, [&](Device &device, Failure &failure) {
    if (bytes != 0 && failure.check(api().clEnqueueReadBuffer(
                                        device.queue(), static_cast<cl_mem>(handle), CL_TRUE,
                                        static_cast<std::size_t>(offset),
                                        static_cast<std::size_t>(bytes), to, 0, nullptr, nullptr),
                                    "bringing bytes back"))
      device.totals().downloaded += bytes;
  });
}

void totals(sy_instance *instance, sy_device_totals *out) {
  Totals &t = device_of(instance).totals();
  if (out->struct_size < sizeof(sy_device_totals)) return;
  out->kernels = t.kernels;
  out->kernel_ns = t.kernel_ns;
  out->transfer_ns = t.transfer_ns;
  out->bytes_to_device = t.uploaded;
  out->bytes_from_device = t.downloaded;
  out->programs_built = t.built;
  out->programs_cached = t.from_cache;
  out->build_ns = t.build_ns;
}

constexpr sy_device_memory kExtension = {
    sizeof(sy_device_memory), SY_DEVICE_OPENCL, allocate, release, upload, download, totals,
};

}  // namespace

const void *device_memory() noexcept { return &kExtension; }

}  // namespace switchyard::opencl
