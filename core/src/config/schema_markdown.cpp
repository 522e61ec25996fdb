// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cmath>

#include "config/schema.hpp"

namespace switchyard::config {
namespace {

std::string type_text(const Field &f) {
  constexpr auto lowest = std::numeric_limits<std::int64_t>::min();
  constexpr auto highest = std::numeric_limits<std::int64_t>::max();
  switch (f.type) {
    case Type::boolean:
      return "true or false";
    case Type::integer:
      if (f.low == lowest) return "integer";
      return f.high == highest ? fmt::format("integer, {} or more", f.low)
                               : fmt::format("integer, {} to {}", f.low, f.high);
    case Type::number:
      if (std::isinf(f.least)) return "number";
      return std::isinf(f.most) ? fmt::format("number, {} or more", f.least)
                                : fmt::format("number, {} to {}", f.least, f.most);
    case Type::text:
      return "text";
    case Type::choice:
      return fmt::format("`{}`", fmt::join(f.choices, "`, `"));
    case Type::path:
      return "path";
    case Type::array:
      return "array file";
    case Type::text_list:
      return "list of texts, or one";
    case Type::path_list:
      return "list of paths, or one";
    case Type::text_map:
      return "mapping, or one text for `\"*\"`";
    case Type::slots: {
      std::string names;
      for (const Field &slot : f.section->fields)
        names += fmt::format("{}`{}`", names.empty() ? "" : ", ", slot.name);
      return (f.section->fields.size() == 1 ? "array file, or a mapping: "
                                            : "mapping or list of array files: ") +
             names;
    }
    case Type::section:
      return fmt::format("mapping: see {}", f.section->title);
    case Type::section_list:
      return fmt::format("list of mappings: see {}", f.section->title);
    case Type::any_list:
      return "list";
    case Type::any_map:
      return "mapping";
  }
  return {};
}

std::string fallback_text(const Field &f) {
  if (f.required) return "required";
  if (f.fallback.empty() || f.fallback == "null") return "-";
  return fmt::format("`{}`", f.fallback);
}

/// A vertical bar would end the table's cell.
std::string cell(std::string_view text) {
  std::string out;
  for (char c : text) out += c == '|' ? std::string("\\|") : std::string(1, c);
  return out;
}

}  // namespace

std::string markdown(const Section &section) {
  std::string out = fmt::format(
      "### {}\n\n| key | value | default | meaning |\n|---|---|---|---|\n", section.title);
  for (const Field &f : section.fields)
    out += fmt::format("| `{}` | {} | {} | {} |\n", f.name, cell(type_text(f)),
                       cell(fallback_text(f)), cell(f.doc));
  out += '\n';
  for (const Field &f : section.fields)
    if (f.type == Type::section || f.type == Type::section_list) out += markdown(*f.section);
  return out;
}

}  // namespace switchyard::config
