// SPDX-License-Identifier: Apache-2.0
#pragma once
/// The most physical memory that this process held since a moment.

#include <cstdint>

namespace switchyard::cli {

/// Begins to count anew; false where the kernel does not offer that (the peak is then of the whole
/// process so far).
bool restart_peak_memory() noexcept;

/// Bytes; 0 = unknown.
std::uint64_t peak_memory() noexcept;

}  // namespace switchyard::cli
