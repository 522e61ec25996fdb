// SPDX-License-Identifier: Apache-2.0
#include "api.hpp"

#include <dlfcn.h>
#include <switchyard/plugin.h>

#include <mutex>

namespace switchyard::opencl {
namespace {

Api functions;
bool opened = false;

bool load(std::string &reason) {
  void *library = dlopen("libOpenCL.so.1", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    reason = "no OpenCL loader (libOpenCL.so.1) is installed";
    return false;
  }
#define SWITCHYARD_OPENCL_LOAD(name)                                           \
  functions.name = reinterpret_cast<decltype(&::name)>(dlsym(library, #name)); \
  if (functions.name == nullptr) {                                             \
    reason = "libOpenCL.so.1 lacks " #name ": it is older than OpenCL 1.2";    \
    return false;                                                              \
  }
  SWITCHYARD_OPENCL_FUNCTIONS(SWITCHYARD_OPENCL_LOAD)
#undef SWITCHYARD_OPENCL_LOAD
  return true;
}

}  // namespace

const Api *open_api(std::string &reason) {
  static std::mutex mutex;
  static std::string why;
  static bool tried = false;
  const std::lock_guard lock(mutex);
  if (!tried) {
    tried = true;
    opened = load(why);
  }
  reason = why;
  return opened ? &functions : nullptr;
}

const Api &api() { return functions; }

std::string code_text(cl_int code) {
  const char *name = "OpenCL error";
  switch (code) {
#define SWITCHYARD_OPENCL_CODE(c) \
  case c:                         \
    name = #c;                    \
    break;
    SWITCHYARD_OPENCL_CODE(CL_DEVICE_NOT_FOUND)
    SWITCHYARD_OPENCL_CODE(CL_DEVICE_NOT_AVAILABLE)
    SWITCHYARD_OPENCL_CODE(CL_COMPILER_NOT_AVAILABLE)
    SWITCHYARD_OPENCL_CODE(CL_MEM_OBJECT_ALLOCATION_FAILURE)
    SWITCHYARD_OPENCL_CODE(CL_OUT_OF_RESOURCES)
    SWITCHYARD_OPENCL_CODE(CL_OUT_OF_HOST_MEMORY)
    SWITCHYARD_OPENCL_CODE(CL_BUILD_PROGRAM_FAILURE)
    SWITCHYARD_OPENCL_CODE(CL_INVALID_VALUE)
    SWITCHYARD_OPENCL_CODE(CL_INVALID_CONTEXT)
    SWITCHYARD_OPENCL_CODE(CL_INVALID_COMMAND_QUEUE)
    SWITCHYARD_OPENCL_CODE(CL_INVALID_HOST_PTR)
    SWITCHYARD_OPENCL_CODE(CL_INVALID_MEM_OBJECT)
    SWITCHYARD_OPENCL_CODE(CL_INVALID_BINARY)
    SWITCHYARD_OPENCL_CODE(CL_INVALID_BUILD_OPTIONS)
    SWITCHYARD_OPENCL_CODE(CL_INVALID_KERNEL_ARGS)
    SWITCHYARD_OPENCL_CODE(CL_INVALID_WORK_GROUP_SIZE)
    SWITCHYARD_OPENCL_CODE(CL_INVALID_BUFFER_SIZE)
    SWITCHYARD_OPENCL_CODE(CL_EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST)
#undef SWITCHYARD_OPENCL_CODE
    default:
      break;
  }
  return std::string(name) + " (" + std::to_string(code) + ")";
}

int status_of(cl_int code) {
  switch (code) {
    case CL_SUCCESS:
      return SY_OK;
    case CL_MEM_OBJECT_ALLOCATION_FAILURE:
    case CL_OUT_OF_HOST_MEMORY:
    case CL_OUT_OF_RESOURCES:
    case CL_INVALID_BUFFER_SIZE:  // more than the device can hold in one buffer
      return SY_E_OUT_OF_MEMORY;
    case CL_DEVICE_NOT_AVAILABLE:
    case CL_INVALID_COMMAND_QUEUE:
    case CL_INVALID_CONTEXT:
    case CL_EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST:
      return SY_E_DEVICE_LOST;
    default:
      return SY_E_INTERNAL;
  }
}

}  // namespace switchyard::opencl
