// SPDX-License-Identifier: Apache-2.0
#pragma once
/// The OpenBLAS plugin's kernel lists.

#include <kernel.hpp>

namespace switchyard::cpu {
inline namespace openblas {

KernelList kmeans_kernels() noexcept;
KernelList kmeans_seed_kernels() noexcept;
KernelList matmul_kernels() noexcept;

}  // namespace openblas
}  // namespace switchyard::cpu
