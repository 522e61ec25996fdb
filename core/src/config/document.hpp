// SPDX-License-Identifier: Apache-2.0
#pragma once
/// A YAML document as a small tree that remembers where everything was written, so that errors can
/// point at it. Reading is bounded: size, depth and number of nodes (aliases expanded) are limited.

#include <string>
#include <string_view>
#include <switchyard/result.hpp>
#include <vector>

namespace switchyard::config {

inline constexpr std::size_t kLargestFile = 1u << 20;
inline constexpr int kDeepest = 32;
inline constexpr std::size_t kMostNodes = 20'000;
inline constexpr std::size_t kMostText = 4u << 20;  ///< bytes of scalars, aliases expanded

/// Where something was written. In a file: 1-based line and column (in characters). In an override
/// (--set): line 0, `column` is the 1-based place in its text.
struct Place {
  int source = 0;  ///< 0 = the file, i = the i-th override
  int line = 0, column = 0;
  int width = 1;  ///< characters to underline
};

struct Entry;

struct Node {
  enum class Kind { null, scalar, list, map };
  Kind kind = Kind::null;
  bool quoted = false;         ///< a scalar in quotes (or a block): always text
  std::string value;           ///< of a scalar
  std::vector<Node> items;     ///< of a list
  std::vector<Entry> entries;  ///< of a map, in file order, keys unique
  Place place;

  const Entry *find(std::string_view key) const noexcept;
  /// "a list", "the text 'abc'", "nothing": for messages.
  std::string found() const;
};

struct Entry {
  std::string key;
  Place place;  ///< of the key
  Node value;
};

class Document {
 public:
  /// Exactly one document, its keys unique, without tags. `path` is for messages. Errors: config.
  static Result<Document> parse(std::string text, std::string path);
  /// io: missing, unreadable, too large.
  static Result<Document> load(const std::string &path);

  const Node &root() const noexcept { return root_; }
  const std::string &path() const noexcept { return path_; }

  /// Applies "dotted.path=value": the value is YAML, list items go by number or by their `name`,
  /// missing keys are made. usage: no '=', a bad path or value.
  Status set(const std::string &text);

  /// A config error at a place, with its source line and a caret.
  tl::unexpected<Error> error(const Place &place, std::string message) const;

 private:
  Node root_;
  std::string text_, path_;
  std::vector<std::string> overrides_;
};

/// "  line\n  ^~~~": shortened where the line is very long.
std::string excerpt(std::string_view line, int column, int width);
/// Characters (UTF-8) of `text`.
int characters(std::string_view text) noexcept;

}  // namespace switchyard::config
