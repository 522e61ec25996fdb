// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Suggestions for mistyped names, so that every "unknown ..." error can offer the nearest known
/// one.

#include <span>
#include <string>
#include <string_view>

namespace switchyard {

/// The known name nearest to `word`, or "" when none is near. Letters' case and the choice between
/// '-' and '_' do not count; a longer word may differ in more places. The first of equals wins.
std::string nearest_name(std::string_view word, std::span<const std::string_view> known);

/// "" or "; did you mean 'x'?", to be appended to an error message.
std::string did_you_mean(std::string_view word, std::span<const std::string_view> known);

}  // namespace switchyard
