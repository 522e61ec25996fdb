// SPDX-License-Identifier: Apache-2.0
// Attention: within error bounds, so products may be fused.
#include "attention_kernels.hpp"
