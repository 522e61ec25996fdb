// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Running kernels of plugins/cuda/kernels on the host. One launch at a time.

#include <cstddef>
#include <cstdint>
#include <string>

namespace switchyard::cuda::emulation {

/// Size of the kernel's one argument, 0 if there is no such kernel.
std::size_t argument_bytes(const std::string &name);
/// Runs all blocks; false if there is no such kernel or it does not allow so many threads.
bool launch(const std::string &name, const std::int64_t (&grid)[3], int threads,
            std::size_t shared_bytes, const void *arguments);

}  // namespace switchyard::cuda::emulation
