// SPDX-License-Identifier: Apache-2.0
/// libcuda.so.1 for tests: the functions that the plugin asks for, over the emulated device. All
/// work is done at once. Allocations end at a forbidden page. The environment plants faults:
/// SWITCHYARD_EMULATED_FAIL=NAME:N makes the N-th call of function NAME answer
/// SWITCHYARD_EMULATED_CODE, and SWITCHYARD_EMULATED_DEVICES sets how many devices there are.
#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <mutex>
#include <vector>

#include "emulated_device.hpp"

#include <driver.hpp>

using namespace switchyard::cuda;

namespace {

constexpr CUresult kInvalid = 1;
constexpr std::size_t kPage = 4096;

struct Block {
  char *map;
  std::size_t room, bytes;
};
struct Graph {
  std::vector<std::function<CUresult()>> steps;
};
struct State {
  std::recursive_mutex mutex;
  std::map<CUdeviceptr, Block> blocks;
  std::map<std::string, int> calls;
  std::string plan;
  Graph *capturing = nullptr;
};
State &state() {
  static State s;
  return s;
}

/// The planted answer for this call of `name`, or success.
CUresult planted(const char *name) {
  State &s = state();
  const std::lock_guard lock(s.mutex);
  const char *plan = std::getenv("SWITCHYARD_EMULATED_FAIL");
  if (s.plan != (plan != nullptr ? plan : "")) {  // a new plan counts from its first call on
    s.plan = plan != nullptr ? plan : "";
    s.calls.clear();
  }
  const int call = ++s.calls[name];
  const char *code = std::getenv("SWITCHYARD_EMULATED_CODE");
  if (plan == nullptr || code == nullptr) return kSuccess;
  const std::string wanted = std::string(name) + ":" + std::to_string(call);
  return wanted == plan ? std::atoi(code) : kSuccess;
}

/// Does `size` bytes from `p` on lie in one allocation?
bool allocated(CUdeviceptr p, std::size_t size) {
  auto after = state().blocks.upper_bound(p);
  if (after == state().blocks.begin()) return false;
  const auto &[begin, block] = *--after;
  return p + size <= begin + block.bytes;
}

template <class F>
CUresult ordered(const char *name, F f) {
  State &s = state();
  const std::lock_guard lock(s.mutex);
  if (const CUresult fault = planted(name); fault != kSuccess) return fault;
  if (s.capturing != nullptr) {
    s.capturing->steps.emplace_back(f);
    return kSuccess;
  }
  return f();
}

}  // namespace

#define EXPORT extern "C" __attribute__((visibility("default"))) CUresult

EXPORT cuInit(unsigned) { return planted("cuInit"); }
EXPORT cuDriverGetVersion(int *version) {
  *version = 13000;
  return kSuccess;
}
EXPORT cuGetErrorName(CUresult result, const char **name) {
  *name = result == kOutOfMemory ? "CUDA_ERROR_OUT_OF_MEMORY" : "CUDA_ERROR_PLANTED";
  return kSuccess;
}
EXPORT cuDeviceGetCount(int *count) {
  const char *devices = std::getenv("SWITCHYARD_EMULATED_DEVICES");
  *count = devices != nullptr ? std::atoi(devices) : 1;
  return kSuccess;
}
EXPORT cuDeviceGet(CUdevice *device, int number) {
  *device = number;
  return kSuccess;
}
EXPORT cuDeviceGetName(char *name, int size, CUdevice) {
  std::snprintf(name, static_cast<std::size_t>(size), "emulated device");
  return kSuccess;
}
EXPORT cuDeviceGetAttribute(int *value, int attribute, CUdevice) {
  const std::map<int, int> values = {
      {kProcessors, 3}, {kMajor, 9}, {kMinor, 0}, {kSharedMemory, 227 << 10}, {kPools, 1}};
  const auto found = values.find(attribute);
  if (found == values.end()) return kInvalid;
  *value = found->second;
  return kSuccess;
}
EXPORT cuDeviceTotalMem_v2(std::size_t *bytes, CUdevice) {
  *bytes = std::size_t{1} << 30;
  return kSuccess;
}
EXPORT cuDeviceGetDefaultMemPool(CUmemoryPool *pool, CUdevice) {
  *pool = &state();
  return planted("cuDeviceGetDefaultMemPool");
}
EXPORT cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice) {
  *context = &state();
  return planted("cuDevicePrimaryCtxRetain");
}
EXPORT cuDevicePrimaryCtxRelease_v2(CUdevice) { return kSuccess; }
EXPORT cuCtxPushCurrent_v2(CUcontext) { return planted("cuCtxPushCurrent"); }
EXPORT cuCtxPopCurrent_v2(CUcontext *) { return kSuccess; }
EXPORT cuMemPoolSetAttribute(CUmemoryPool, int, void *) { return kSuccess; }
EXPORT cuMemPoolTrimTo(CUmemoryPool, std::size_t) { return kSuccess; }

EXPORT cuMemAllocAsync(CUdeviceptr *p, std::size_t bytes, CUstream) {
  State &s = state();
  const std::lock_guard lock(s.mutex);
  if (const CUresult fault = planted("cuMemAllocAsync"); fault != kSuccess) return fault;
  if (bytes == 0 || s.capturing != nullptr) return kInvalid;
  if (bytes > std::size_t{1} << 30) return kOutOfMemory;
  const std::size_t room = (bytes + kPage - 1) / kPage * kPage;
  void *map =
      mmap(nullptr, room + kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (map == MAP_FAILED) return kOutOfMemory;
  mprotect(static_cast<char *>(map) + room, kPage, PROT_NONE);
  std::memset(map, 0xA5, room);
  *p = reinterpret_cast<CUdeviceptr>(map) + room - (bytes + 15) / 16 * 16;
  s.blocks[*p] = {static_cast<char *>(map), room, bytes};
  return kSuccess;
}
EXPORT cuMemFreeAsync(CUdeviceptr p, CUstream) {
  State &s = state();
  const std::lock_guard lock(s.mutex);
  const auto found = s.blocks.find(p);
  if (found == s.blocks.end()) return kInvalid;
  munmap(found->second.map, found->second.room + kPage);
  s.blocks.erase(found);
  return kSuccess;
}
EXPORT cuMemAllocHost_v2(void **p, std::size_t bytes) {
  if (const CUresult fault = planted("cuMemAllocHost"); fault != kSuccess) return fault;
  *p = std::malloc(bytes);
  return *p != nullptr ? kSuccess : kOutOfMemory;
}
EXPORT cuMemFreeHost(void *p) {
  std::free(p);
  return kSuccess;
}
EXPORT cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void *from, std::size_t bytes, CUstream) {
  return ordered("cuMemcpyHtoDAsync", [=] {
    if (!allocated(to, bytes)) return kInvalid;
    std::memcpy(reinterpret_cast<void *>(to), from, bytes);
    return kSuccess;
  });
}
EXPORT cuMemcpyDtoHAsync_v2(void *to, CUdeviceptr from, std::size_t bytes, CUstream) {
  return ordered("cuMemcpyDtoHAsync", [=] {
    if (!allocated(from, bytes)) return kInvalid;
    std::memcpy(to, reinterpret_cast<const void *>(from), bytes);
    return kSuccess;
  });
}
EXPORT cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, std::size_t bytes, CUstream) {
  return ordered("cuMemcpyDtoDAsync", [=] {
    if (!allocated(to, bytes) || !allocated(from, bytes)) return kInvalid;
    std::memcpy(reinterpret_cast<void *>(to), reinterpret_cast<const void *>(from), bytes);
    return kSuccess;
  });
}
EXPORT cuMemsetD8Async(CUdeviceptr to, unsigned char value, std::size_t bytes, CUstream) {
  return ordered("cuMemsetD8Async", [=] {
    if (!allocated(to, bytes)) return kInvalid;
    std::memset(reinterpret_cast<void *>(to), value, bytes);
    return kSuccess;
  });
}
EXPORT cuStreamCreate(CUstream *stream, unsigned) {
  *stream = &state();
  return planted("cuStreamCreate");
}
EXPORT cuStreamDestroy_v2(CUstream) { return kSuccess; }
EXPORT cuStreamSynchronize(CUstream) { return planted("cuStreamSynchronize"); }
EXPORT cuStreamQuery(CUstream) { return planted("cuStreamQuery"); }

EXPORT cuStreamBeginCapture_v2(CUstream, int) {
  State &s = state();
  const std::lock_guard lock(s.mutex);
  if (s.capturing != nullptr) return kInvalid;
  s.capturing = new Graph;
  return planted("cuStreamBeginCapture");
}
EXPORT cuStreamEndCapture(CUstream, CUgraph *graph) {
  State &s = state();
  const std::lock_guard lock(s.mutex);
  *graph = s.capturing;
  s.capturing = nullptr;
  return planted("cuStreamEndCapture");
}
EXPORT cuGraphInstantiateWithFlags(CUgraphExec *executable, CUgraph graph, unsigned long long) {
  *executable = new Graph(*static_cast<Graph *>(graph));
  return kSuccess;
}
EXPORT cuGraphLaunch(CUgraphExec executable, CUstream) {
  State &s = state();
  const std::lock_guard lock(s.mutex);
  if (const CUresult fault = planted("cuGraphLaunch"); fault != kSuccess) return fault;
  for (const auto &step : static_cast<Graph *>(executable)->steps)
    if (const CUresult result = step(); result != kSuccess) return result;
  return kSuccess;
}
EXPORT cuGraphExecDestroy(CUgraphExec executable) {
  delete static_cast<Graph *>(executable);
  return kSuccess;
}
EXPORT cuGraphDestroy(CUgraph graph) {
  delete static_cast<Graph *>(graph);
  return kSuccess;
}
EXPORT cuEventCreate(CUevent *event, unsigned) {
  *event = &state();
  return planted("cuEventCreate");
}
EXPORT cuEventDestroy_v2(CUevent) { return kSuccess; }
EXPORT cuEventRecord(CUevent, CUstream) { return kSuccess; }
EXPORT cuEventSynchronize(CUevent) { return kSuccess; }
EXPORT cuEventElapsedTime(float *ms, CUevent, CUevent) {
  *ms = 0.001f;
  return kSuccess;
}
EXPORT cuModuleLoadData(CUmodule *module, const void *) {
  *module = &state();
  return planted("cuModuleLoadData");
}
EXPORT cuModuleUnload(CUmodule) { return kSuccess; }
EXPORT cuModuleGetFunction(CUfunction *function, CUmodule, const char *name) {
  static std::map<std::string, std::string> names;
  const std::lock_guard lock(state().mutex);
  if (emulation::argument_bytes(name) == 0) return 500;
  *function = &(names[name] = name);
  return planted("cuModuleGetFunction");
}
EXPORT cuFuncSetAttribute(CUfunction, int, int value) {
  return value <= 227 << 10 ? kSuccess : kInvalid;
}
EXPORT cuLaunchKernel(CUfunction function, unsigned x, unsigned y, unsigned z, unsigned threads,
                      unsigned, unsigned, unsigned shared, CUstream, void **arguments, void **) {
  const std::string name = *static_cast<std::string *>(function);
  // Arguments are those at the time of the launch, also in a graph.
  const auto *bytes = static_cast<const char *>(arguments[0]);
  const std::vector<char> copy(bytes, bytes + emulation::argument_bytes(name));
  return ordered("cuLaunchKernel", [=] {
    const std::int64_t grid[3] = {x, y, z};
    return emulation::launch(name, grid, static_cast<int>(threads), shared, copy.data()) ? kSuccess
                                                                                         : kInvalid;
  });
}
