// SPDX-License-Identifier: Apache-2.0
/// switchyard.device-memory/1: arrays that stay on the device between calls.
#include <switchyard/device_memory.h>

#include "instance.hpp"

namespace switchyard::cuda {
namespace {

/// Runs f(device, failure) inside the device's context; its failure is the answer.
template <class F>
std::int32_t with_device(sy_instance *instance, sy_error *error, F f) {
  try {
    Device &device = device_of(instance);
    const std::lock_guard lock(device.mutex());
    Failure failure;
    if (device.enter(failure)) {
      f(device, failure);
      if (!failure.any())
        device.check(device.driver().cuStreamSynchronize(device.stream()), "copying", failure);
      device.leave();
    }
    if (!failure.any()) return SY_OK;
    return cpu::failure(error, failure.code, failure.text.c_str());
  } catch (...) {
    return cpu::failure(error, SY_E_OUT_OF_MEMORY, "no host memory for the request");
  }
}

CUdeviceptr address(void *handle, std::uint64_t offset) {
  return reinterpret_cast<CUdeviceptr>(handle) + offset;
}

std::int32_t allocate(sy_instance *instance, std::uint64_t bytes, void **handle, sy_error *error) {
  return with_device(instance, error, [&](Device &device, Failure &failure) {
    if (const CUdeviceptr memory = device.allocate(bytes, failure); memory != 0)
      *handle = reinterpret_cast<void *>(memory);
  });
}

void release(sy_instance *instance, void *handle) {
  (void)with_device(instance, nullptr,
                    [&](Device &device, Failure &) { device.free(address(handle, 0)); });
}

std::int32_t upload(sy_instance *instance, void *handle, std::uint64_t offset, const void *from,
                    std::uint64_t bytes, sy_error *error) {
  return with_device(instance, error, [&](Device &device, Failure &failure) {
    if (bytes != 0 && device.check(device.driver().cuMemcpyHtoDAsync(address(handle, offset), from,
                                                                     bytes, device.stream()),
                                   "sending to the device", failure))
      device.totals().to += bytes;
  });
}

std::int32_t download(sy_instance *instance, void *handle, std::uint64_t offset, void *to,
                      std::uint64_t bytes, sy_error *error) {
  return with_device(instance, error, [&](Device &device, Failure &failure) {
    if (bytes != 0 && device.check(device.driver().cuMemcpyDtoHAsync(to, address(handle, offset),
                                                                     bytes, device.stream()),
                                   "bringing bytes back", failure))
      device.totals().from += bytes;
  });
}

void totals(sy_instance *instance, sy_device_totals *out) {
  Device::Totals &t = device_of(instance).totals();
  if (out->struct_size < sizeof(sy_device_totals)) return;
  out->kernels = t.kernels;
  out->kernel_ns = t.kernel_ns;
  out->transfer_ns = t.transfer_ns;
  out->bytes_to_device = t.to;
  out->bytes_from_device = t.from;
  out->programs_built = out->programs_cached = out->build_ns = 0;  // compiled with the plugin
}

constexpr sy_device_memory kExtension = {
    sizeof(sy_device_memory), SY_DEVICE_CUDA, allocate, release, upload, download, totals,
};

}  // namespace

const void *device_memory() noexcept { return &kExtension; }

}  // namespace switchyard::cuda
