// SPDX-License-Identifier: Apache-2.0
#pragma once
/// The reference plugin's kernel lists: one source file per operation, plain loops.

#include "kernel.hpp"

namespace switchyard::reference {

cpu::KernelList quantize_kernels() noexcept;
cpu::KernelList dequantize_kernels() noexcept;
cpu::KernelList kmeans_kernels() noexcept;
cpu::KernelList kmeans_seed_kernels() noexcept;
cpu::KernelList attention_kernels() noexcept;
cpu::KernelList matmul_kernels() noexcept;
cpu::KernelList norm_kernels() noexcept;
cpu::KernelList activation_kernels() noexcept;
cpu::KernelList rope_kernels() noexcept;

}  // namespace switchyard::reference
