// SPDX-License-Identifier: Apache-2.0
#pragma once
/// What to change, by what was measured.

#include <map>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <switchyard/engine.hpp>

namespace switchyard {

/// A class of calls that was met: the time spent on it, and the best median of each backend that
/// was timed on it.
struct MeasuredClass {
  std::string op, chosen;  ///< operation and the backend that answers
  double total_ns = 0;
  std::map<std::string, double> medians;
};

/// A pin holds for all calls of an operation: backends that would have taken clearly less time over
/// all the classes met, each of which they were timed on.
std::vector<Recommendation> recommend_pins(std::span<const MeasuredClass> classes);

/// For documents: what, evidence, expected_gain and command, null where there is none.
nlohmann::ordered_json to_json(const Recommendation &recommendation);

}  // namespace switchyard
