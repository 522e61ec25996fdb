// SPDX-License-Identifier: Apache-2.0
#pragma once
/// The kernels of attention: by element type, size of the heads, and rows a block takes.

#include "attention_scalar.hpp"
#include "attention_tensor.hpp"

namespace switchyard::cuda::device {

#define SY_TENSOR(NAME, TYPE, DEPTH)                                         \
  SY_KERNEL(attention_##NAME##_##DEPTH##_many, AttentionArguments, 256, 1) { \
    attention_tensor<TYPE, DEPTH, kManyWarps>(a);                            \
  }                                                                          \
  SY_KERNEL(attention_##NAME##_##DEPTH##_few, AttentionArguments, 32, 1) {   \
    attention_tensor<TYPE, DEPTH, kFewWarps>(a);                             \
  }
SY_TENSOR(bf16, Bf16, 64)
SY_TENSOR(bf16, Bf16, 128)
SY_TENSOR(bf16, Bf16, 256)
SY_TENSOR(f16, F16, 64)
SY_TENSOR(f16, F16, 128)
SY_TENSOR(f16, F16, 256)
#undef SY_TENSOR

#define SY_SCALAR(DEPTH)                                                    \
  SY_KERNEL(attention_f32_##DEPTH, AttentionArguments, kScalarThreads, 1) { \
    attention_scalar<DEPTH>(a);                                             \
  }
SY_SCALAR(64)
SY_SCALAR(128)
SY_SCALAR(256)
#undef SY_SCALAR

SY_KERNEL(attention_merge_f32, AttentionArguments, kMergeThreads, 4) {
  merge_parts(a, ValueType::f32);
}
SY_KERNEL(attention_merge_f16, AttentionArguments, kMergeThreads, 4) {
  merge_parts(a, ValueType::f16);
}
SY_KERNEL(attention_merge_bf16, AttentionArguments, kMergeThreads, 4) {
  merge_parts(a, ValueType::bf16);
}

}  // namespace switchyard::cuda::device
