// SPDX-License-Identifier: Apache-2.0
#pragma once
/// From the common options to an engine.

#include <string_view>

#include "facade/backends.hpp"
#include "program.hpp"

namespace switchyard::cli {

/// Checks the common options' values that need no machine: policy, preset, dtype, isa. A wrong one
/// is a usage error, so every command calls this before it opens a file.
Status check_common(const Common &common);

/// Environment and command line over `base` (defaults, or a run file's options).
Result<Options> make_options(const Common &common, Options base = {});

/// An engine for the common options. A pinned backend that is unknown or refused is an error that
/// lists the known ones.
Result<Engine> make_engine(const Common &common, Options base = {});

/// `value` unless it is empty; then a usage error if it is not one of `known`.
Status check_choice(std::string_view what, std::string_view value,
                    std::span<const std::string_view> known);

/// The common head of a result document.
Json document(std::string_view command);
/// The keys that say who answered: op, backend, kernel, requested_backend, verified,
/// fallback_reason, time_ms.
void add_run_info(Json &doc, std::string_view op, const RunInfo &info);
/// The same as the first line of the text: "avx512 (quantize.f32_q4_0.row@avx512) took 1.2 ms".
std::string run_info_text(const RunInfo &info);

}  // namespace switchyard::cli
