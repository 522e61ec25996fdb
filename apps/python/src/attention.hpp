// SPDX-License-Identifier: Apache-2.0
#pragma once
/// What surrounds the attention call: advice, model shapes, key-value caches.

#include <nanobind/nanobind.h>

#include <switchyard/engine.hpp>

namespace switchyard::python {

void bind_advice(nanobind::module_ &m);
void bind_kv_cache(nanobind::module_ &m, nanobind::class_<Engine> &engine);

}  // namespace switchyard::python
