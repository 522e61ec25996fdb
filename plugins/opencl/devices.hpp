// SPDX-License-Identifier: Apache-2.0
#pragma once
/// What is known of a device without asking its driver: loading one takes tens of milliseconds, so
/// descriptions are kept in a file and the driver is loaded when the first kernel runs.

#include <switchyard/plugin.h>

#include <cstdint>
#include <string>
#include <vector>

#include "api.hpp"

namespace switchyard::opencl {

/// One device. Numbers as OpenCL reports them; the `keeps_...` and `exact_...` flags were tried out
/// with a program on the device, for drivers' words on them cannot be relied upon.
struct Description {
  std::uint32_t platform_index = 0, device_index = 0;  ///< in OpenCL's order
  std::string platform, name, version, driver;
  std::uint64_t type = 0;  ///< CL_DEVICE_TYPE_*
  std::uint64_t memory = 0, largest_buffer = 0, local_memory = 0;
  std::uint32_t units = 1, vector_width = 1, largest_group = 1;
  bool unified = false;          ///< host memory is device memory: nothing is copied
  bool rounds_option = false;    ///< knows -cl-fp32-correctly-rounded-divide-sqrt
  bool fp64 = false;             ///< doubles
  bool fp16 = false;             ///< half arithmetic (no kernel needs it)
  bool atomics64 = false;        ///< 64-bit atomic addition
  bool keeps_denormals = false;  ///< f32 denormals are neither flushed on reading nor on writing
  bool exact_division = false;   ///< f32 divisions and square roots are rounded correctly
  bool exact_fma = false;        ///< f32 fma() is rounded once
  std::string trouble;           ///< why the device cannot be used at all; "" otherwise

  bool is_cpu() const { return (type & CL_DEVICE_TYPE_CPU) != 0; }
};

/// All devices of all platforms, from the file or from the drivers. [main]
const std::vector<Description> &devices(const sy_host *host);

/// As text and back; false if the text is not one.
std::string to_text(const std::vector<Description> &list);
bool from_text(const std::string &text, std::vector<Description> &list);

/// Everything that the drivers say; without the flags that are tried out.
std::vector<Description> ask_drivers();
/// The device again, in OpenCL's hands; nullptr if another one is in its place now.
cl_device_id find_device(const Description &description, cl_platform_id &platform);

}  // namespace switchyard::opencl
