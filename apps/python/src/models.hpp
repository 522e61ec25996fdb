// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Model conversion for the extension switchyard._core.

#include <nanobind/nanobind.h>

#include <switchyard/engine.hpp>

namespace switchyard::python {

/// Adds quantize_model and dequantize_model; both give the report's JSON.
void bind_models(nanobind::module_ &m);

}  // namespace switchyard::python
