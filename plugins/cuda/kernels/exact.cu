// SPDX-License-Identifier: Apache-2.0
// Kernels whose results are defined bit by bit: built without contraction of a*b+c.
#include "dequantize_kernels.hpp"
#include "kmeans_kernels.hpp"
#include "quantize_kernels.hpp"
