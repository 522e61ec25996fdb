// SPDX-License-Identifier: Apache-2.0
#pragma once
/// What the conformance kit for plugin authors found.

#include <optional>
#include <string>
#include <vector>

namespace switchyard::check {

enum class State {
  pass,
  fail,
  warn,  ///< allowed, but the author will want to know
  skip,  ///< could not be judged here; the detail says why
};

std::string_view to_string(State state) noexcept;

struct Item {
  std::string section;  ///< "abi", "results", ...
  std::string name;     ///< what was checked, in words
  std::string kernel;   ///< "" = the plugin as a whole
  State state = State::pass;
  std::string detail;
};

struct Speed {
  std::string kernel, shape;
  double ms = 0, reference_ms = 0;
};

struct Report {
  std::string path, id, version, content_hash;
  std::vector<std::string> kernels;
  std::vector<Item> items;
  std::vector<Speed> speed;
  bool readmitted = false;  ///< an earlier quarantine was lifted

  bool passed() const noexcept;
  int count(State state) const noexcept;
  std::string text() const;
};

/// One line of text and back, for the worker's answers.
std::string encode(const Item &item);
std::string encode(const Speed &speed);
/// Adds what the line says; false if it says nothing of this kind.
bool decode(const std::string &line, Report &report);

}  // namespace switchyard::check
