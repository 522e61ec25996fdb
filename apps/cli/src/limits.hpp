// SPDX-License-Identifier: Apache-2.0
#pragma once
/// How measured limits are shown.

#include "machine/limits.hpp"
#include "program.hpp"

namespace switchyard::cli {

/// One object for each figure: what, where, bytes, threads, gb_per_s.
Json bandwidth_json(const MachineLimits &limits);
/// what ("f32", ...), isa, threads, gflop_per_s (for int8 10^9 integer operations).
Json compute_json(const MachineLimits &limits);
std::string limits_text(const MachineLimits &limits);

}  // namespace switchyard::cli
