// SPDX-License-Identifier: Apache-2.0
#include "config/document.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "base/suggest.hpp"
#include "config/yaml_reader.hpp"
#include "io/file.hpp"
#include "io/utf8.hpp"

namespace switchyard::config {

const Entry *Node::find(std::string_view key) const noexcept {
  for (const Entry &entry : entries)
    if (entry.key == key) return &entry;
  return nullptr;
}

std::string Node::found() const {
  switch (kind) {
    case Kind::null:
      return "nothing";
    case Kind::list:
      return "a list";
    case Kind::map:
      return "a mapping";
    case Kind::scalar:
      break;
  }
  const std::string_view cut = std::string_view(value).substr(0, 60);
  return fmt::format("{}'{}'", quoted ? "the text " : "", is_utf8(cut) ? cut : "...");
}

int characters(std::string_view text) noexcept {
  return static_cast<int>(
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xc0) != 0x80; }));
}

std::string excerpt(std::string_view line, int column, int width) {
  constexpr int kBefore = 60, kLongest = 120;
  std::u32string text = decode_utf8(line);
  int at = std::clamp(column - 1, 0, static_cast<int>(text.size()));
  if (at > kLongest - kBefore && static_cast<int>(text.size()) > kLongest) {
    text.erase(0, static_cast<std::size_t>(at - kBefore));
    text.insert(0, U"...");
    at = kBefore + 3;
  }
  if (static_cast<int>(text.size()) > kLongest)
    text = text.substr(0, static_cast<std::size_t>(kLongest)) + U"...";
  std::string shown = "  ", caret = "  ";
  for (std::size_t i = 0; i < text.size(); ++i) {
    (void)append_utf8(shown, text[i]);
    if (static_cast<int>(i) < at) caret.push_back(text[i] == U'\t' ? '\t' : ' ');
  }
  caret.push_back('^');
  const int room = std::max(0, static_cast<int>(text.size()) - at - 1);
  caret.append(static_cast<std::size_t>(std::clamp(width - 1, 0, room)), '~');
  return shown + "\n" + caret;
}

Result<Document> Document::parse(std::string text, std::string path) {
  constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";
  if (text.starts_with(kByteOrderMark)) text.erase(0, kByteOrderMark.size());
  Document document;
  document.text_ = std::move(text);
  document.path_ = std::move(path);
  auto read = read_yaml(document.text_);
  if (const auto *problem = std::get_if<YamlProblem>(&read)) {
    const Place place{0, problem->line, problem->column, problem->width};
    return document.error(place, problem->message);
  }
  document.root_ = std::move(std::get<Node>(read));
  if (document.root_.kind != Node::Kind::map) {
    const Place place = document.root_.place.line > 0 ? document.root_.place : Place{0, 1, 1, 1};
    return document.error(place, fmt::format("expected a mapping that begins with 'version: 1', "
                                             "found {}",
                                             document.root_.found()));
  }
  return document;
}

Result<Document> Document::load(const std::string &path) {
  auto text = read_text_file(path, kLargestFile);
  if (!text) return tl::unexpected(text.error());
  return parse(std::move(*text), path);
}

tl::unexpected<Error> Document::error(const Place &place, std::string message) const {
  Error error;
  error.code = ErrorCode::config;
  if (place.source > 0) {
    const std::string &text = overrides_[static_cast<std::size_t>(place.source) - 1];
    error.message = fmt::format("--set {}: {}", text, message);
    error.excerpt = excerpt(text, place.column, place.width);
  } else {
    error.message = std::move(message);
    error.file = path_;
    error.line = place.line;
    error.column = place.column;
    error.excerpt = excerpt(line_of(text_, place.line), place.column, place.width);
  }
  return tl::unexpected<Error>(std::move(error));
}

namespace {

/// Marks a subtree as coming from an override; `start` is the column its text begins at.
void claim(Node &node, int source, int start) {
  const auto move = [&](Place &p) {
    p.source = source;
    p.column = (p.line <= 1 ? std::max(p.column, 1) : 1) + start - 1;
    p.line = 0;
  };
  move(node.place);
  for (Node &item : node.items) claim(item, source, start);
  for (Entry &entry : node.entries) {
    move(entry.place);
    claim(entry.value, source, start);
  }
}

/// The list item that a path's part names, by number or by its `name`.
Result<Node *> pick(Node &list, std::string_view part, const std::string &text) {
  std::size_t index = 0;
  const auto [end, failure] = std::from_chars(part.data(), part.data() + part.size(), index);
  if (failure == std::errc() && end == part.data() + part.size()) {
    if (index < list.items.size()) return &list.items[index];
    return fail(ErrorCode::usage,
                fmt::format("--set {}: no item {}; the list has {} (counted from 0)", text, part,
                            list.items.size()));
  }
  std::vector<std::string_view> names;
  for (Node &item : list.items) {
    const Entry *name = item.find("name");
    if (name == nullptr) continue;
    if (name->value.value == part) return &item;
    names.push_back(name->value.value);
  }
  return fail(ErrorCode::usage, fmt::format("--set {}: the list has no item named '{}'{}", text,
                                            part, did_you_mean(part, names)));
}

}  // namespace

Status Document::set(const std::string &text) {
  const auto bad = [&](std::string_view why) {
    return fail(ErrorCode::usage, fmt::format("--set {}: {}", text, why));
  };
  const auto equals = text.find('=');
  if (equals == std::string::npos || equals == 0) return bad("write key=value");
  if (!is_utf8(text)) return fail(ErrorCode::usage, "--set: the text is not UTF-8");
  const std::string value_text = text.substr(equals + 1);
  auto read = read_yaml(value_text);
  if (const auto *problem = std::get_if<YamlProblem>(&read))
    return bad(fmt::format("{} (quote the value?)", problem->message));
  Node value = std::move(std::get<Node>(read));
  if (value_text.empty()) {  // KEY= means the empty text
    value.kind = Node::Kind::scalar;
    value.quoted = true;
  }
  overrides_.push_back(text);
  const int source = static_cast<int>(overrides_.size());
  const int value_column = characters(text.substr(0, equals)) + 2;
  claim(value, source, value_column);

  Node *node = &root_;
  std::string_view path(text.data(), equals);
  int column = 1, depth = 0;
  while (true) {
    const std::string_view part = path.substr(0, path.find('.'));
    if (part.empty()) return bad("a part of the key is empty");
    if (++depth > kDeepest) return bad(fmt::format("more than {} parts", kDeepest));
    const Place place{source, 0, column, characters(part)};
    if (node->kind == Node::Kind::list) {
      auto item = pick(*node, part, text);
      if (!item) return tl::unexpected(item.error());
      node = *item;
    } else {
      if (node->kind == Node::Kind::scalar)
        return bad(fmt::format("'{}' lies under a plain value", part));
      if (node->kind == Node::Kind::null) {
        node->kind = Node::Kind::map;
        node->place = place;
      }
      const auto it = std::find_if(node->entries.begin(), node->entries.end(),
                                   [&](const Entry &e) { return e.key == part; });
      if (it == node->entries.end()) {
        node->entries.push_back({std::string(part), place, {}});
        node = &node->entries.back().value;
        node->place = place;
      } else {
        node = &it->value;
      }
    }
    if (part.size() == path.size()) break;
    path.remove_prefix(part.size() + 1);
    column += characters(part) + 1;
  }
  *node = std::move(value);
  return {};
}

}  // namespace switchyard::config
