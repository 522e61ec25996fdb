// SPDX-License-Identifier: Apache-2.0
#pragma once
/// The OpenCL sources of kernels/, as the build embedded them.

namespace switchyard::opencl {

struct Source {
  const char *name;  ///< "quantize.cl"
  const char *text;
};
extern const Source kSources[];
extern const unsigned kSourceCount;

}  // namespace switchyard::opencl
