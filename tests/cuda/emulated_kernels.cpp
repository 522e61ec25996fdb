// SPDX-License-Identifier: Apache-2.0
/// The device's kernels, compiled for the host.
#include <kernels/attention_kernels.hpp>
#include <kernels/dequantize_kernels.hpp>
#include <kernels/kmeans_kernels.hpp>
#include <kernels/quantize_kernels.hpp>
