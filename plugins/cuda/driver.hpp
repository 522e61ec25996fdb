// SPDX-License-Identifier: Apache-2.0
#pragma once
/// The part of the CUDA driver's interface that this plugin uses, found at run time: nothing of
/// CUDA is linked, so one build serves machines with and without a driver. Names and values are
/// those of NVIDIA's cuda.h.

#include <switchyard/plugin.h>

#include <cstddef>
#include <cstdint>

namespace switchyard::cuda {

using CUresult = int;
using CUdevice = int;
using CUdeviceptr = std::uint64_t;
using CUcontext = void *;
using CUstream = void *;
using CUevent = void *;
using CUmodule = void *;
using CUfunction = void *;
using CUmemoryPool = void *;
using CUgraph = void *;
using CUgraphExec = void *;

inline constexpr CUresult kSuccess = 0, kOutOfMemory = 2, kNotReady = 600;
inline constexpr int kProcessors = 16, kMajor = 75, kMinor = 76, kSharedMemory = 97,
                     kPools = 115;             ///< CUdevice_attribute
inline constexpr int kFunctionShared = 8;      ///< CUfunction_attribute
inline constexpr int kPoolThreshold = 4;       ///< CUmemPool_attribute
inline constexpr unsigned kNonBlocking = 1;    ///< CUstream_flags
inline constexpr unsigned kDefaultEvent = 0;   ///< CUevent_flags
inline constexpr int kCaptureThreadLocal = 1;  ///< CUstreamCaptureMode

/// Name in libcuda, then result and arguments.
#define SY_CUDA_FUNCTIONS(X)                                                                       \
  X(cuInit, cuInit, (unsigned))                                                                    \
  X(cuDriverGetVersion, cuDriverGetVersion, (int *))                                               \
  X(cuGetErrorName, cuGetErrorName, (CUresult, const char **))                                     \
  X(cuDeviceGetCount, cuDeviceGetCount, (int *))                                                   \
  X(cuDeviceGet, cuDeviceGet, (CUdevice *, int))                                                   \
  X(cuDeviceGetName, cuDeviceGetName, (char *, int, CUdevice))                                     \
  X(cuDeviceGetAttribute, cuDeviceGetAttribute, (int *, int, CUdevice))                            \
  X(cuDeviceTotalMem, cuDeviceTotalMem_v2, (std::size_t *, CUdevice))                              \
  X(cuDeviceGetDefaultMemPool, cuDeviceGetDefaultMemPool, (CUmemoryPool *, CUdevice))              \
  X(cuDevicePrimaryCtxRetain, cuDevicePrimaryCtxRetain, (CUcontext *, CUdevice))                   \
  X(cuDevicePrimaryCtxRelease, cuDevicePrimaryCtxRelease_v2, (CUdevice))                           \
  X(cuCtxPushCurrent, cuCtxPushCurrent_v2, (CUcontext))                                            \
  X(cuCtxPopCurrent, cuCtxPopCurrent_v2, (CUcontext *))                                            \
  X(cuMemPoolSetAttribute, cuMemPoolSetAttribute, (CUmemoryPool, int, void *))                     \
  X(cuMemPoolTrimTo, cuMemPoolTrimTo, (CUmemoryPool, std::size_t))                                 \
  X(cuMemAllocAsync, cuMemAllocAsync, (CUdeviceptr *, std::size_t, CUstream))                      \
  X(cuMemFreeAsync, cuMemFreeAsync, (CUdeviceptr, CUstream))                                       \
  X(cuMemAllocHost, cuMemAllocHost_v2, (void **, std::size_t))                                     \
  X(cuMemFreeHost, cuMemFreeHost, (void *))                                                        \
  X(cuMemcpyHtoDAsync, cuMemcpyHtoDAsync_v2, (CUdeviceptr, const void *, std::size_t, CUstream))   \
  X(cuMemcpyDtoHAsync, cuMemcpyDtoHAsync_v2, (void *, CUdeviceptr, std::size_t, CUstream))         \
  X(cuMemcpyDtoDAsync, cuMemcpyDtoDAsync_v2, (CUdeviceptr, CUdeviceptr, std::size_t, CUstream))    \
  X(cuMemsetD8Async, cuMemsetD8Async, (CUdeviceptr, unsigned char, std::size_t, CUstream))         \
  X(cuStreamCreate, cuStreamCreate, (CUstream *, unsigned))                                        \
  X(cuStreamDestroy, cuStreamDestroy_v2, (CUstream))                                               \
  X(cuStreamSynchronize, cuStreamSynchronize, (CUstream))                                          \
  X(cuStreamQuery, cuStreamQuery, (CUstream))                                                      \
  X(cuStreamBeginCapture, cuStreamBeginCapture_v2, (CUstream, int))                                \
  X(cuStreamEndCapture, cuStreamEndCapture, (CUstream, CUgraph *))                                 \
  X(cuGraphInstantiate, cuGraphInstantiateWithFlags, (CUgraphExec *, CUgraph, unsigned long long)) \
  X(cuGraphLaunch, cuGraphLaunch, (CUgraphExec, CUstream))                                         \
  X(cuGraphExecDestroy, cuGraphExecDestroy, (CUgraphExec))                                         \
  X(cuGraphDestroy, cuGraphDestroy, (CUgraph))                                                     \
  X(cuEventCreate, cuEventCreate, (CUevent *, unsigned))                                           \
  X(cuEventDestroy, cuEventDestroy_v2, (CUevent))                                                  \
  X(cuEventRecord, cuEventRecord, (CUevent, CUstream))                                             \
  X(cuEventSynchronize, cuEventSynchronize, (CUevent))                                             \
  X(cuEventElapsedTime, cuEventElapsedTime, (float *, CUevent, CUevent))                           \
  X(cuModuleLoadData, cuModuleLoadData, (CUmodule *, const void *))                                \
  X(cuModuleUnload, cuModuleUnload, (CUmodule))                                                    \
  X(cuModuleGetFunction, cuModuleGetFunction, (CUfunction *, CUmodule, const char *))              \
  X(cuFuncSetAttribute, cuFuncSetAttribute, (CUfunction, int, int))                                \
  X(cuLaunchKernel, cuLaunchKernel,                                                                \
    (CUfunction, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, CUstream,   \
     void **, void **))

struct Driver {
#define SY_CUDA_POINTER(NAME, SYMBOL, ARGUMENTS) CUresult(*NAME) ARGUMENTS = nullptr;
  SY_CUDA_FUNCTIONS(SY_CUDA_POINTER)
#undef SY_CUDA_POINTER
};

/// The process's driver, initialised; loaded by the first call. nullptr with the reason where there
/// is none. [any-thread]
const Driver *load_driver(sy_error *error);

/// A result as one of sy_status: out of memory, a device that will not answer again, or a defect.
std::int32_t status_of(CUresult result) noexcept;

}  // namespace switchyard::cuda
