// SPDX-License-Identifier: Apache-2.0
#pragma once
/// What a configuration may hold, as data: the checker, the readers and the documentation all work
/// from these tables, so a key, its range and its default are written once.

#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "config/document.hpp"

namespace switchyard::config {

enum class Type {
  boolean,
  integer,
  number,
  text,
  choice,     ///< one of `choices`, in any case
  path,       ///< text; relative to the file's directory
  array,      ///< path, or FILE:KEY
  text_list,  ///< a list of texts; one text stands for a list of one
  path_list,
  text_map,      ///< texts by free names; one text stands for {"*": text}
  slots,         ///< files by the names in `section`, a list in their order, or the first one alone
  section,       ///< a mapping described by `section`
  section_list,  ///< a list of them
  any_list,      ///< a list that the caller checks
  any_map        ///< a mapping that the caller checks
};

struct Section;

struct Field {
  std::string_view name;
  Type type = Type::text;
  std::string_view fallback{};  ///< the default as YAML text; "" = none; "null" = null is allowed
  std::string_view doc{};       ///< one line
  bool required = false;
  std::int64_t low = std::numeric_limits<std::int64_t>::min();
  std::int64_t high = std::numeric_limits<std::int64_t>::max();
  double least = -std::numeric_limits<double>::infinity();  ///< numbers
  double most = std::numeric_limits<double>::infinity();
  std::span<const std::string_view> choices{};
  const Section *section = nullptr;
};

struct Section {
  std::string_view title;  ///< "engine": for messages and documentation
  std::span<const Field> fields;
  const Field *find(std::string_view name) const noexcept;
};

/// Checks a mapping against a section: known keys only, required ones there, types, ranges. The
/// first error in file order is returned, with its place.
Status check(const Document &document, const Node &map, const Section &section);

/// Reads a checked mapping. `has` is false for absent keys and for null.
class View {
 public:
  View(const Node &map, const Section &section) noexcept : map_(&map), section_(&section) {}

  bool has(std::string_view key) const noexcept { return node(key) != nullptr; }
  const Node *node(std::string_view key) const noexcept;
  // What is given, else the schema's default.
  bool boolean(std::string_view key) const;
  std::int64_t integer(std::string_view key) const;
  double number(std::string_view key) const;
  std::string text(std::string_view key) const;  ///< choices in their canonical spelling
  // Empty where absent.
  std::vector<std::string> list(std::string_view key) const;
  std::map<std::string, std::string> map(std::string_view key) const;
  /// Slot -> file name as written.
  std::map<std::string, std::string> slots(std::string_view key) const;

 private:
  std::string given_or_fallback(std::string_view key) const;
  const Node *map_;
  const Section *section_;
};

// Text to value as YAML 1.2's core schema has it; nullopt if it is none.
std::optional<bool> parse_boolean(std::string_view text) noexcept;
std::optional<std::int64_t> parse_integer(std::string_view text) noexcept;  ///< 10, -3, 1e6
std::optional<double> parse_number(std::string_view text) noexcept;         ///< finite

/// A Markdown table of the section's keys, and of those below it.
std::string markdown(const Section &section);

}  // namespace switchyard::config
