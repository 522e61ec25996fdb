// SPDX-License-Identifier: Apache-2.0
#pragma once
/// What to type to follow a recommendation.

#include <string>
#include <switchyard/engine.hpp>

namespace switchyard {

/// A command line; "" where no single one would do.
std::string command_of(const Recommendation &recommendation);

}  // namespace switchyard
