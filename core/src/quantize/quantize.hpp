// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Quantise and dequantise as the C++ interface offers them, over whatever answers the calls.

#include <switchyard/engine.hpp>

#include "dispatcher/runner.hpp"

namespace switchyard {

/// The operation's parameters for options given in words. The format's default group size replaces
/// 0 where one is needed. Errors: usage (unknown format or word, negative group size),
/// invalid_argument (a choice that the format does not offer).
Result<sy_quantize_params> quantize_params_of(const QuantizeOptions &options);

/// Options that name the format of q's arrays, and no more.
QuantizeOptions format_options(const Quantized &q);

/// Engine::quantize. Arrays that the caller did not give are allocated. Errors: as
/// quantize_params_of; shape, dtype, nonfinite and overflow (Error::index says where); those of the
/// backend. [any-thread]
Result<Quantized> quantize(Runner &runner, TensorView x, const QuantizeOptions &options);

/// Engine::dequantize: into `out` (any of f32, f16, bf16; q.shape; contiguous in the last
/// dimension), or into a new array of q.dtype. The result then views `out`. [any-thread]
Result<Tensor> dequantize(Runner &runner, const Quantized &q, TensorView out, RunInfo *info);

}  // namespace switchyard
