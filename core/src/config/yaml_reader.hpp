// SPDX-License-Identifier: Apache-2.0
#pragma once
/// YAML text to nodes, by way of yaml-cpp's events.

#include <string>
#include <variant>

#include "config/document.hpp"

namespace switchyard::config {

/// What is wrong with a text, and where (columns in characters, 1-based).
struct YamlProblem {
  std::string message;
  int line = 0, column = 0, width = 1;
};

/// All places have source 0.
std::variant<Node, YamlProblem> read_yaml(const std::string &text);

/// Line `line` (1-based) of a text, without its end.
std::string_view line_of(std::string_view text, int line) noexcept;

}  // namespace switchyard::config
