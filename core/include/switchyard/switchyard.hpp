// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Everything a C++ host needs.

#include <switchyard/attention.hpp>
#include <switchyard/batch.hpp>
#include <switchyard/engine.hpp>
#include <switchyard/kv_cache.hpp>
#include <switchyard/layers.hpp>
#include <switchyard/models.hpp>
#include <switchyard/progress.hpp>
#include <switchyard/quantize.hpp>
#include <switchyard/result.hpp>
#include <switchyard/tensor.hpp>
