// SPDX-License-Identifier: Apache-2.0
#pragma once
/// What a shared object exports, read without running any of its code.

#include <string>
#include <switchyard/result.hpp>
#include <vector>

namespace switchyard {

/// Names of the defined global and weak dynamic symbols, sorted.
Result<std::vector<std::string>> exported_symbols(const std::string &path);

}  // namespace switchyard
