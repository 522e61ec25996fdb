// SPDX-License-Identifier: Apache-2.0
#pragma once
/// The OpenCL loader, opened at run time.

#define CL_TARGET_OPENCL_VERSION 120
#include <CL/cl.h>

#include <string>

namespace switchyard::opencl {

#define SWITCHYARD_OPENCL_FUNCTIONS(X) \
  X(clGetPlatformIDs)                  \
  X(clGetPlatformInfo)                 \
  X(clGetDeviceIDs)                    \
  X(clGetDeviceInfo)                   \
  X(clCreateContext)                   \
  X(clReleaseContext)                  \
  X(clCreateCommandQueue)              \
  X(clReleaseCommandQueue)             \
  X(clCreateBuffer)                    \
  X(clRetainMemObject)                 \
  X(clReleaseMemObject)                \
  X(clCreateProgramWithSource)         \
  X(clCreateProgramWithBinary)         \
  X(clReleaseProgram)                  \
  X(clBuildProgram)                    \
  X(clGetProgramInfo)                  \
  X(clGetProgramBuildInfo)             \
  X(clCreateKernel)                    \
  X(clReleaseKernel)                   \
  X(clSetKernelArg)                    \
  X(clEnqueueNDRangeKernel)            \
  X(clEnqueueReadBuffer)               \
  X(clEnqueueWriteBuffer)              \
  X(clEnqueueCopyBuffer)               \
  X(clEnqueueFillBuffer)               \
  X(clEnqueueMapBuffer)                \
  X(clEnqueueUnmapMemObject)           \
  X(clGetEventProfilingInfo)           \
  X(clGetEventInfo)                    \
  X(clReleaseEvent)                    \
  X(clWaitForEvents)                   \
  X(clFlush)                           \
  X(clFinish)

struct Api {
#define SWITCHYARD_OPENCL_MEMBER(name) decltype(&::name) name;
  SWITCHYARD_OPENCL_FUNCTIONS(SWITCHYARD_OPENCL_MEMBER)
#undef SWITCHYARD_OPENCL_MEMBER
};

/// The loader's functions, or nullptr with the reason. Opens libOpenCL.so.1 once. [any-thread]
const Api *open_api(std::string &reason);
/// The functions, after open_api has succeeded.
const Api &api();

/// "CL_OUT_OF_RESOURCES (-5)".
std::string code_text(cl_int code);
/// The sy_status for an OpenCL error.
int status_of(cl_int code);

}  // namespace switchyard::opencl
