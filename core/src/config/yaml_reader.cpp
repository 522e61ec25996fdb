// SPDX-License-Identifier: Apache-2.0
#include "config/yaml_reader.hpp"

#include <fmt/format.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <map>
#include <set>
#include <sstream>

#include "io/utf8.hpp"

namespace switchyard::config {
namespace {

/// Leaves the parser as soon as a limit is passed.
struct Stop {
  YamlProblem problem;
};

class Builder final : public YAML::EventHandler {
 public:
  explicit Builder(std::string_view text) : text_(text), lines_{0} {
    for (std::size_t i = 0; i < text.size(); ++i)
      if (text[i] == '\n') lines_.push_back(i + 1);
  }
  Node root;

  void OnDocumentStart(const YAML::Mark &) override {}
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark &mark, YAML::anchor_t anchor) override {
    place_value(make(Node::Kind::null, mark), anchor);
  }
  void OnScalar(const YAML::Mark &mark, const std::string &tag, YAML::anchor_t anchor,
                const std::string &value) override {
    check_tag(mark, tag);
    Node node = make(Node::Kind::scalar, mark);
    node.value = value;
    node.quoted = tag == "!";
    if (node.quoted) check_quotes(mark);
    node.place.width = scalar_width(node);
    take_text(value.size(), node.place);
    place_value(std::move(node), anchor);
  }
  void OnAlias(const YAML::Mark &mark, YAML::anchor_t anchor) override {
    const auto it = anchors_.find(anchor);
    if (it == anchors_.end()) stop(at(mark), "an alias inside of what it stands for");
    Node copy = it->second;
    spend(copy, at(mark));
    place_value(std::move(copy), 0);
  }
  void OnSequenceStart(const YAML::Mark &mark, const std::string &tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    check_tag(mark, tag);
    open(make(Node::Kind::list, mark), anchor);
  }
  void OnMapStart(const YAML::Mark &mark, const std::string &tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    check_tag(mark, tag);
    open(make(Node::Kind::map, mark), anchor);
  }
  void OnSequenceEnd() override { close(); }
  void OnMapEnd() override { close(); }

 private:
  struct Frame {
    Node node;
    YAML::anchor_t anchor = 0;
    std::set<std::string, std::less<>> keys;
    bool expects_key = true;
    Entry entry;
  };

  [[noreturn]] static void stop(const Place &p, std::string message) {
    throw Stop{{std::move(message), p.line, p.column, p.width}};
  }
  /// The byte that a mark means.
  std::size_t offset(const YAML::Mark &mark) const {
    const auto line = std::min(static_cast<std::size_t>(std::max(mark.line, 0)), lines_.size() - 1);
    return std::min(lines_[line] + static_cast<std::size_t>(std::max(mark.column, 0)),
                    text_.size());
  }
  Place at(const YAML::Mark &mark) const {
    Place p;
    p.line = mark.line + 1;
    const std::size_t end = offset(mark);
    const auto line = std::min(static_cast<std::size_t>(std::max(mark.line, 0)), lines_.size() - 1);
    p.column = characters(text_.substr(lines_[line], end - lines_[line])) + 1;
    return p;
  }
  /// The parser takes the end of the file for a closing quote; a cut file must not pass.
  void check_quotes(const YAML::Mark &mark) const {
    const std::size_t start = offset(mark);
    if (start == text_.size() || (text_[start] != '\'' && text_[start] != '"')) return;
    const char quote = text_[start];
    for (std::size_t i = start + 1; i < text_.size(); ++i) {
      if (text_[i] == '\\' && quote == '"') {
        ++i;
      } else if (text_[i] == quote) {
        const bool doubled = quote == '\'' && i + 1 < text_.size() && text_[i + 1] == quote;
        if (!doubled) return;
        ++i;
      }
    }
    stop(at(mark), "the quote is never closed");
  }
  /// Plain one-line scalars are underlined as written, others at their start.
  int scalar_width(const Node &node) const {
    if (node.quoted) return 1;
    return node.value.find('\n') == std::string::npos ? std::max(1, characters(node.value)) : 1;
  }
  Node make(Node::Kind kind, const YAML::Mark &mark) {
    Node node;
    node.kind = kind;
    node.place = at(mark);
    if (++nodes_ > kMostNodes)
      stop(node.place, fmt::format("more than {} values (aliases count in full)", kMostNodes));
    return node;
  }
  void take_text(std::size_t bytes, const Place &place) {
    text_bytes_ += bytes;
    if (text_bytes_ > kMostText)
      stop(place, fmt::format("more than {} bytes of text (aliases count in full)", kMostText));
  }
  void check_tag(const YAML::Mark &mark, const std::string &tag) const {
    if (!tag.empty() && tag != "?" && tag != "!")
      stop(at(mark), fmt::format("YAML tags are not supported ('{}')", tag.substr(0, 60)));
  }
  /// Counts a copied subtree against the limits.
  void spend(const Node &node, const Place &place) {
    if (++nodes_ > kMostNodes)
      stop(place, fmt::format("more than {} values (aliases count in full)", kMostNodes));
    take_text(node.value.size(), place);
    for (const Node &item : node.items) spend(item, place);
    for (const Entry &entry : node.entries) {
      take_text(entry.key.size(), place);
      spend(entry.value, place);
    }
    const int depth = static_cast<int>(frames_.size()) + height(node);
    if (depth > kDeepest) stop(place, too_deep());
  }
  static int height(const Node &node) {
    int deepest = 0;
    for (const Node &item : node.items) deepest = std::max(deepest, height(item));
    for (const Entry &entry : node.entries) deepest = std::max(deepest, height(entry.value));
    return node.kind == Node::Kind::list || node.kind == Node::Kind::map ? deepest + 1 : 0;
  }
  static std::string too_deep() { return fmt::format("nested more than {} levels deep", kDeepest); }

  void open(Node node, YAML::anchor_t anchor) {
    if (!frames_.empty() && is_key()) stop(node.place, "a key must be plain text");
    if (frames_.size() == kDeepest) stop(node.place, too_deep());
    Frame frame;
    frame.node = std::move(node);
    frame.anchor = anchor;
    frames_.push_back(std::move(frame));
  }
  void close() {
    Frame frame = std::move(frames_.back());
    frames_.pop_back();
    place_value(std::move(frame.node), frame.anchor);
  }
  bool is_key() const {
    return frames_.back().node.kind == Node::Kind::map && frames_.back().expects_key;
  }
  void place_value(Node node, YAML::anchor_t anchor) {
    if (anchor != 0) {
      spend(node, node.place);
      anchors_[anchor] = node;
    }
    if (frames_.empty()) {
      root = std::move(node);
      return;
    }
    Frame &frame = frames_.back();
    if (frame.node.kind == Node::Kind::list) {
      frame.node.items.push_back(std::move(node));
    } else if (frame.expects_key) {
      if (node.kind != Node::Kind::scalar) stop(node.place, "a key must be plain text");
      if (!frame.keys.insert(node.value).second)
        stop(node.place, fmt::format("key '{}' is given twice", node.value));
      frame.entry.key = std::move(node.value);
      frame.entry.place = node.place;
      frame.expects_key = false;
    } else {
      frame.entry.value = std::move(node);
      frame.node.entries.push_back(std::move(frame.entry));
      frame.entry = {};
      frame.expects_key = true;
    }
  }

  std::string_view text_;
  std::vector<std::size_t> lines_;  // where each line begins
  std::vector<Frame> frames_;
  std::map<YAML::anchor_t, Node> anchors_;
  std::size_t nodes_ = 0, text_bytes_ = 0;
};

/// The first byte that is not UTF-8, or a control character that no text file holds.
std::optional<YamlProblem> check_text(std::string_view text) {
  YamlProblem problem;
  problem.line = 1;
  problem.column = 1;
  for (std::string_view rest = text; !rest.empty();) {
    const auto c = take_utf8(rest);
    if (!c) {
      problem.message = "the file is not UTF-8 text";
      return problem;
    }
    if ((*c < 0x20 && *c != '\t' && *c != '\n' && *c != '\r') || *c == 0x7f) {
      problem.message = "a control character";
      return problem;
    }
    ++problem.column;
    if (*c != '\n') continue;
    ++problem.line;
    problem.column = 1;
  }
  return std::nullopt;
}

}  // namespace

std::string_view line_of(std::string_view text, int line) noexcept {
  for (int i = 1; i < line; ++i) {
    const auto end = text.find('\n');
    if (end == std::string_view::npos) return {};
    text.remove_prefix(end + 1);
  }
  text = text.substr(0, text.find('\n'));
  if (text.ends_with('\r')) text.remove_suffix(1);
  return text;
}

std::variant<Node, YamlProblem> read_yaml(const std::string &text) {
  if (text.size() > kLargestFile)
    return YamlProblem{fmt::format("larger than {} bytes", kLargestFile), 1, 1, 1};
  if (auto problem = check_text(text)) return *problem;
  Builder builder(text);
  try {
    std::istringstream stream(text);
    YAML::Parser parser(stream);
    if (!parser.HandleNextDocument(builder)) return Node{};
    Builder second(text);
    if (parser.HandleNextDocument(second)) {
      const Place p = second.root.place;
      return YamlProblem{"a second document; one is expected", p.line, p.column, 1};
    }
  } catch (const Stop &stop) {
    return stop.problem;
  } catch (const YAML::Exception &e) {
    const int bytes = std::max(e.mark.column, 0);
    const int line = std::max(e.mark.line, 0) + 1;
    const std::string_view source = line_of(text, line);
    const auto before = source.substr(0, std::min(static_cast<std::size_t>(bytes), source.size()));
    return YamlProblem{"not valid YAML: " + e.msg, line, characters(before) + 1, 1};
  }
  return std::move(builder.root);
}

}  // namespace switchyard::config
