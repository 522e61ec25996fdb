// SPDX-License-Identifier: Apache-2.0
#pragma once
/// What `bench` is to measure: shapes, sweeps and times as written on the command line.

#include <map>

#include "shapes.hpp"

namespace switchyard::cli {

/// "30s", "500ms", "2m" or plain seconds; above 0. A usage error otherwise.
Result<double> parse_seconds(std::string_view what, const std::string &text);

/// The values of "LOW..HIGH" (doubling), "LOW..HIGH:F" (each F times the one before, F > 1) or
/// "LOW..HIGH:+S" (steps of S); HIGH is included where a step meets it. Integers as in shapes: 1e6,
/// 64k. Text without ".." is the one value that it is.
Result<std::vector<std::string>> sweep(std::string_view name, const std::string &text);

/// Every combination of a shape's sweeps, in order. `extra` sets names on top ("n" -> "1e4..1e6").
Result<std::vector<OpShape>> expand(const std::string &op, const std::string &shape,
                                    const std::map<std::string, std::string> &extra,
                                    const Common &common);

/// What people run when they name no shape: small and large cases of each kind.
std::vector<std::string> default_shapes(const std::string &op);

}  // namespace switchyard::cli
