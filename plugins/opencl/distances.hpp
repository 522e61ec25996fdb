// SPDX-License-Identifier: Apache-2.0
#pragma once
/// What the canonical distance of k-means asks of a device.

#include <failure.hpp>

#include "devices.hpp"

namespace switchyard::opencl {

inline std::int32_t exact_distances(const Description &about, sy_error *reason) {
  if (!about.keeps_denormals)
    return cpu::failure(reason, SY_E_UNSUPPORTED,
                        "the device flushes f32 denormals: small distances would differ");
  if (!about.exact_fma)
    return cpu::failure(reason, SY_E_UNSUPPORTED,
                        "the device has no correctly rounded fma: distances would differ");
  return SY_OK;
}

}  // namespace switchyard::opencl
