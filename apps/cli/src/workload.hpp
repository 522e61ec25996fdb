// SPDX-License-Identifier: Apache-2.0
#pragma once
/// The shapes that `tune` measures and `regret` judges when none are named: kinds of calls that
/// people make, each with ranges of sizes.

#include <random>

#include "shapes.hpp"

namespace switchyard::cli {

/// Ops of the workload, all of them or the named one ("kmeans" = kmeans.step).
Result<std::vector<std::string>> workload_ops(const std::string &op);

/// A coarse grid over every kind of call of `op`, in an order that covers the ranges early.
std::vector<OpShape> tuning_grid(const std::string &op);

/// `count` shapes drawn log-uniformly from the same ranges, none of them on the grid.
std::vector<OpShape> held_out(const std::string &op, int count, std::mt19937_64 &random);

}  // namespace switchyard::cli
