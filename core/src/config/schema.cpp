// SPDX-License-Identifier: Apache-2.0
#include "config/schema.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "base/suggest.hpp"

namespace switchyard::config {
namespace {

char lower(char c) noexcept { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

const std::string_view *find_choice(const Field &field, std::string_view text) noexcept {
  const auto it = std::find_if(field.choices.begin(), field.choices.end(), [&](auto choice) {
    return std::ranges::equal(choice, text, {}, lower, lower);
  });
  return it == field.choices.end() ? nullptr : &*it;
}

bool is_scalar(const Node &node) noexcept { return node.kind == Node::Kind::scalar; }

/// One check of one mapping; the document is there for error places.
class Checker {
 public:
  explicit Checker(const Document &document) : document_(document) {}

  Status section(const Node &node, const Section &section) const {
    if (node.kind != Node::Kind::map)
      return bad(node,
                 fmt::format("{}: expected a mapping, found {}", section.title, node.found()));
    for (const Entry &entry : node.entries) {
      const Field *field = section.find(entry.key);
      if (field == nullptr) return unknown(entry, section);
      if (auto s = value(entry, *field); !s) return s;
    }
    for (const Field &field : section.fields)
      if (field.required && node.find(field.name) == nullptr)
        return bad(node, fmt::format("{}: the key '{}' is missing", section.title, field.name));
    return {};
  }

 private:
  Status bad(const Node &node, std::string message) const {
    return document_.error(node.place, std::move(message));
  }
  Status unknown(const Entry &entry, const Section &section) const {
    std::vector<std::string_view> known;
    for (const Field &field : section.fields) known.push_back(field.name);
    Place place = entry.place;
    place.width = std::max(1, characters(entry.key));
    return document_.error(place, fmt::format("unknown key '{}' in {}{}", entry.key, section.title,
                                              did_you_mean(entry.key, known)));
  }
  Status expected(const Entry &entry, const Node &node, std::string_view what) const {
    // Nothing has no place of its own worth pointing at.
    const bool absent = node.kind == Node::Kind::null && node.place.source == 0;
    const Place place = absent ? entry.place : node.place;
    return document_.error(place,
                           fmt::format("{}: expected {}, found {}", entry.key, what, node.found()));
  }

  Status value(const Entry &entry, const Field &field) const {
    const Node &node = entry.value;
    if (node.kind == Node::Kind::null && field.fallback == "null") return {};
    switch (field.type) {
      case Type::boolean:
        if (is_scalar(node) && !node.quoted && parse_boolean(node.value)) return {};
        return expected(entry, node, "true or false");
      case Type::integer:
        return integer(entry, field);
      case Type::number:
        return number(entry, field);
      case Type::choice:
        return choice(entry, field);
      case Type::text:
        return is_scalar(node) ? Status{} : expected(entry, node, "a text");
      case Type::path:
      case Type::array:
        return file_name(entry, node);
      case Type::text_list:
      case Type::path_list:
        return texts(entry, field);
      case Type::text_map:
        if (is_scalar(node)) return {};
        if (node.kind != Node::Kind::map) return expected(entry, node, "a mapping of texts");
        for (const Entry &e : node.entries)
          if (!is_scalar(e.value)) return expected(e, e.value, "a text");
        return {};
      case Type::slots:
        return slots(entry, field);
      case Type::section:
        return section(node, *field.section);
      case Type::section_list:
        if (node.kind != Node::Kind::list) return expected(entry, node, "a list");
        for (const Node &item : node.items)
          if (auto s = section(item, *field.section); !s) return s;
        return {};
      case Type::any_list:
        return node.kind == Node::Kind::list ? Status{} : expected(entry, node, "a list");
      case Type::any_map:
        return node.kind == Node::Kind::map ? Status{} : expected(entry, node, "a mapping");
    }
    return {};
  }
  Status integer(const Entry &entry, const Field &field) const {
    const Node &node = entry.value;
    const auto n = is_scalar(node) && !node.quoted ? parse_integer(node.value) : std::nullopt;
    if (!n) return expected(entry, node, "an integer");
    if (*n >= field.low && *n <= field.high) return {};
    if (field.high == std::numeric_limits<std::int64_t>::max())
      return bad(node, fmt::format("{}: {} is below {}", entry.key, *n, field.low));
    return bad(node, fmt::format("{}: {} is not in {}..{}", entry.key, *n, field.low, field.high));
  }
  Status number(const Entry &entry, const Field &field) const {
    const Node &node = entry.value;
    const auto x = is_scalar(node) && !node.quoted ? parse_number(node.value) : std::nullopt;
    if (!x) return expected(entry, node, "a number");
    if (*x >= field.least && *x <= field.most) return {};
    if (std::isinf(field.most))
      return bad(node, fmt::format("{}: {} is below {}", entry.key, *x, field.least));
    return bad(node,
               fmt::format("{}: {} is not in {}..{}", entry.key, *x, field.least, field.most));
  }
  Status choice(const Entry &entry, const Field &field) const {
    const Node &node = entry.value;
    const std::string all = fmt::format("{}", fmt::join(field.choices, ", "));
    if (!is_scalar(node)) return expected(entry, node, "one of " + all);
    if (find_choice(field, node.value) != nullptr) return {};
    const std::string hint = did_you_mean(node.value, field.choices);
    return bad(node, fmt::format("{}: unknown value {}{}", entry.key, node.found(),
                                 hint.empty() ? "; one of " + all : hint));
  }
  Status file_name(const Entry &entry, const Node &node) const {
    if (is_scalar(node) && !node.value.empty()) return {};
    return expected(entry, node, "a file name");
  }
  Status texts(const Entry &entry, const Field &field) const {
    const Node &node = entry.value;
    const bool paths = field.type == Type::path_list;
    const auto one = [&](const Node &item) {
      if (paths) return file_name(entry, item);
      return is_scalar(item) ? Status{} : expected(entry, item, "a text");
    };
    if (is_scalar(node)) return one(node);
    if (node.kind != Node::Kind::list) return expected(entry, node, "a list of texts");
    for (const Node &item : node.items)
      if (auto s = one(item); !s) return s;
    return {};
  }
  Status slots(const Entry &entry, const Field &field) const {
    const Node &node = entry.value;
    const auto fields = field.section->fields;
    if (node.kind == Node::Kind::map) return section(node, *field.section);
    const auto required =
        std::count_if(fields.begin(), fields.end(), [](auto &f) { return f.required; });
    if (node.kind == Node::Kind::list) {
      if (node.items.size() > fields.size() ||
          node.items.size() < static_cast<std::size_t>(required))
        return bad(node, fmt::format("{}: expected {} to {} files, found {}", entry.key, required,
                                     fields.size(), node.items.size()));
      for (const Node &item : node.items)
        if (auto s = file_name(entry, item); !s) return s;
      return {};
    }
    // Alone, a file name must not leave open which slot it means.
    if (required == 1 || fields.size() == 1) return file_name(entry, node);
    std::vector<std::string_view> names;
    for (const Field &f : fields) names.push_back(f.name);
    return expected(entry, node,
                    fmt::format("a mapping of file names: {}", fmt::join(names, ", ")));
  }

  const Document &document_;
};

}  // namespace

const Field *Section::find(std::string_view name) const noexcept {
  for (const Field &field : fields)
    if (field.name == name) return &field;
  return nullptr;
}

Status check(const Document &document, const Node &map, const Section &section) {
  return Checker(document).section(map, section);
}

const Node *View::node(std::string_view key) const noexcept {
  const Entry *entry = map_->find(key);
  return entry == nullptr || entry->value.kind == Node::Kind::null ? nullptr : &entry->value;
}

std::string View::given_or_fallback(std::string_view key) const {
  if (const Node *given = node(key)) return given->value;
  const Field *field = section_->find(key);
  return field == nullptr || field->fallback == "null" ? "" : std::string(field->fallback);
}

bool View::boolean(std::string_view key) const {
  return parse_boolean(given_or_fallback(key)).value_or(false);
}
std::int64_t View::integer(std::string_view key) const {
  return parse_integer(given_or_fallback(key)).value_or(0);
}
double View::number(std::string_view key) const {
  return parse_number(given_or_fallback(key)).value_or(0);
}
std::string View::text(std::string_view key) const {
  std::string text = given_or_fallback(key);
  const Field *field = section_->find(key);
  if (field == nullptr || field->type != Type::choice) return text;
  const std::string_view *choice = find_choice(*field, text);
  return choice == nullptr ? text : std::string(*choice);
}

std::vector<std::string> View::list(std::string_view key) const {
  const Node *given = node(key);
  if (given == nullptr) return {};
  if (is_scalar(*given)) return {given->value};
  std::vector<std::string> out;
  for (const Node &item : given->items) out.push_back(item.value);
  return out;
}

std::map<std::string, std::string> View::map(std::string_view key) const {
  const Node *given = node(key);
  if (given == nullptr) return {};
  if (is_scalar(*given)) return {{"*", given->value}};
  std::map<std::string, std::string> out;
  for (const Entry &e : given->entries) out[e.key] = e.value.value;
  return out;
}

std::map<std::string, std::string> View::slots(std::string_view key) const {
  const Node *given = node(key);
  if (given == nullptr) return {};
  const auto fields = section_->find(key)->section->fields;
  if (is_scalar(*given)) return {{std::string(fields.front().name), given->value}};
  std::map<std::string, std::string> out;
  for (std::size_t i = 0; i < given->items.size(); ++i)
    out[std::string(fields[i].name)] = given->items[i].value;
  for (const Entry &e : given->entries) out[e.key] = e.value.value;
  return out;
}

std::optional<bool> parse_boolean(std::string_view text) noexcept {
  if (text == "true" || text == "True" || text == "TRUE") return true;
  if (text == "false" || text == "False" || text == "FALSE") return false;
  return std::nullopt;
}

std::optional<std::int64_t> parse_integer(std::string_view text) noexcept {
  std::int64_t n = 0;
  const char *end = text.data() + text.size();
  const auto [stop, failure] = std::from_chars(text.data(), end, n);
  if (failure == std::errc() && stop == end) return n;
  // Round numbers such as 1e6 are exact as doubles.
  const auto x = parse_number(text);
  constexpr double kExact = 9007199254740992.0;
  if (!x || std::trunc(*x) != *x || std::fabs(*x) > kExact) return std::nullopt;
  return static_cast<std::int64_t>(*x);
}

std::optional<double> parse_number(std::string_view text) noexcept {
  double x = 0;
  const char *end = text.data() + text.size();
  const auto [stop, failure] = std::from_chars(text.data(), end, x);
  if (failure != std::errc() || stop != end || !std::isfinite(x)) return std::nullopt;
  return x;
}

}  // namespace switchyard::config
