// SPDX-License-Identifier: Apache-2.0
#include "driver.hpp"

#include <dlfcn.h>

#include <cstdio>
#include <failure.hpp>
#include <mutex>

namespace switchyard::cuda {
namespace {

struct Loaded {
  Driver driver;
  std::int32_t status = SY_E_HARDWARE;
  char reason[200] = "";
};

template <class F>
bool find(void *library, const char *name, F *&function) {
  function = reinterpret_cast<F *>(dlsym(library, name));
  return function != nullptr;
}

void load(Loaded &l) {
  void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (library == nullptr) {
    std::snprintf(l.reason, sizeof l.reason,
                  "no NVIDIA driver: libcuda.so.1 cannot be loaded; install the driver");
    return;
  }
#define SY_CUDA_FIND(NAME, SYMBOL, ARGUMENTS)                                                      \
  if (!find(library, #SYMBOL, l.driver.NAME)) {                                                    \
    std::snprintf(l.reason, sizeof l.reason,                                                       \
                  "the NVIDIA driver lacks %s; a driver for CUDA 12 or later is needed", #SYMBOL); \
    return;                                                                                        \
  }
  SY_CUDA_FUNCTIONS(SY_CUDA_FIND)
#undef SY_CUDA_FIND
  if (const CUresult result = l.driver.cuInit(0); result != kSuccess) {
    const char *name = nullptr;
    l.driver.cuGetErrorName(result, &name);
    std::snprintf(l.reason, sizeof l.reason, "the NVIDIA driver does not start: %s (%d)",
                  name != nullptr ? name : "unknown error", result);
    return;
  }
  l.status = SY_OK;
}

}  // namespace

const Driver *load_driver(sy_error *error) {
  static std::once_flag once;
  static Loaded loaded;
  std::call_once(once, [] { load(loaded); });
  if (loaded.status == SY_OK) return &loaded.driver;
  cpu::failure(error, loaded.status, loaded.reason);
  return nullptr;
}

std::int32_t status_of(CUresult result) noexcept {
  switch (result) {
    case kSuccess:
      return SY_OK;
    case kOutOfMemory:
      return SY_E_OUT_OF_MEMORY;
    case 1:    // invalid value
    case 200:  // invalid image
    case 209:  // no binary for this GPU
    case 500:  // named symbol not found
    case 701:  // too many resources requested for a launch
      return SY_E_INTERNAL;
    default:  // ECC errors, illegal addresses, a failed or timed-out launch: the context is gone
      return SY_E_DEVICE_LOST;
  }
}

}  // namespace switchyard::cuda
