// SPDX-License-Identifier: Apache-2.0
#include "config/document.hpp"

#include <gtest/gtest.h>

#include <chrono>

namespace switchyard::config {
namespace {

Error error_of(const std::string &text) {
  auto document = Document::parse(text, "run.yaml");
  if (document) {
    ADD_FAILURE() << "parsed: " << text.substr(0, 100);
    return {};
  }
  EXPECT_EQ(document.error().code, ErrorCode::config);
  EXPECT_EQ(document.error().file, "run.yaml");
  return document.error();
}

void expect_at(const Error &e, int line, int column, const std::string &part) {
  EXPECT_EQ(e.line, line) << e.text();
  EXPECT_EQ(e.column, column) << e.text();
  EXPECT_NE(e.message.find(part), std::string::npos) << e.text();
}

TEST(Document, RemembersPlaces) {
  auto d = Document::parse("a: 1\nb:\n  - x\n  - {c: 'q', d: }\n", "run.yaml");
  ASSERT_TRUE(d.has_value()) << d.error().text();
  const Node &root = d->root();
  ASSERT_EQ(root.entries.size(), 2u);
  EXPECT_EQ(root.find("a")->value.value, "1");
  EXPECT_EQ(root.find("a")->value.place.line, 1);
  EXPECT_EQ(root.find("a")->value.place.column, 4);
  const Node &list = root.find("b")->value;
  ASSERT_EQ(list.items.size(), 2u);
  EXPECT_EQ(list.items[0].place.line, 3);
  EXPECT_EQ(list.items[0].place.column, 5);
  const Node &map = list.items[1];
  EXPECT_TRUE(map.find("c")->value.quoted);
  EXPECT_EQ(map.find("c")->place.column, 6);
  EXPECT_EQ(map.find("d")->value.kind, Node::Kind::null);
}

TEST(Document, ErrorsPointAtTheirPlace) {
  const Error twice = error_of("version: 1\nengine:\n  threads: 1\n  threads: 2\n");
  expect_at(twice, 4, 3, "key 'threads' is given twice");
  EXPECT_EQ(twice.excerpt, "    threads: 2\n    ^~~~~~~");
  EXPECT_EQ(twice.text(),
            "run.yaml:4:3: key 'threads' is given twice\n    threads: 2\n    ^~~~~~~");
  expect_at(error_of("a: [1, 2\nb: 3\n"), 2, 2, "not valid YAML");
  expect_at(error_of("a: 'x''\nb: 2\n"), 1, 4, "the quote is never closed");
  expect_at(error_of("a: \"x\\\"\n"), 1, 4, "the quote is never closed");
  expect_at(error_of("a: 1\n b: 2\n"), 2, 3, "not valid YAML");
  expect_at(error_of("a: *nobody\n"), 1, 4, "not valid YAML");
  expect_at(error_of("? [x]\n: 1\n"), 1, 3, "a key must be plain text");
  expect_at(error_of("? {x: 1}\n: 1\n"), 1, 3, "a key must be plain text");
  expect_at(error_of("a: !!int 3\n"), 1, 4, "tags are not supported");
  expect_at(error_of("a: !!binary |\n  aGVsbG8=\n"), 1, 4, "tags are not supported");
  expect_at(error_of("a: 1\n---\nb: 2\n"), 3, 1, "a second document");
  expect_at(error_of(""), 1, 1, "expected a mapping that begins with 'version: 1', found nothing");
  expect_at(error_of("- 1\n"), 1, 1, "found a list");
  expect_at(error_of("hello\n"), 1, 1, "found 'hello'");
  expect_at(error_of("a: 1\nb: \xff\n"), 2, 4, "not UTF-8");
  expect_at(error_of(std::string("a: \0", 4)), 1, 4, "control character");
}

TEST(Document, CaretsCountCharacters) {
  const Error e = error_of("a: \"caf\u00e9 \u00fc\"\nb: {\u00e9\u00e9: 1, x: 2, x: 3}\n");
  expect_at(e, 2, 18, "given twice");
  EXPECT_EQ(e.excerpt, "  b: {\u00e9\u00e9: 1, x: 2, x: 3}\n                   ^");
  // Tabs stay tabs above the caret.
  EXPECT_EQ(excerpt("a:\tb: c", 4, 1), "  a:\tb: c\n    \t^");
  // A very long line is cut around the place.
  const std::string cut =
      excerpt(std::string(5000, 'x') + "HERE" + std::string(5000, 'y'), 5001, 4);
  EXPECT_LT(cut.size(), 300u);
  const auto newline = cut.find('\n');
  const auto caret = cut.find('^') - newline - 1;
  EXPECT_EQ(cut.substr(caret, 4), "HERE");
  EXPECT_EQ(excerpt("ab", 9, 5), "  ab\n    ^");
}

TEST(Document, WindowsLineEnds) {
  const Error e = error_of("a: 1\r\na: 2\r\n");
  expect_at(e, 2, 1, "twice");
  EXPECT_EQ(e.excerpt, "  a: 2\n  ^");
}

TEST(Document, ByteOrderMarkIsSkipped) {
  const Error e = error_of(
      "\xef\xbb\xbf"
      "a: 1\na: 2\n");
  expect_at(e, 2, 1, "twice");
  auto d = Document::parse(
      "\xef\xbb\xbf"
      "a: 'x'\n",
      "run.yaml");
  ASSERT_TRUE(d.has_value());
  EXPECT_EQ(d->root().entries[0].key, "a");
}

TEST(Document, AliasesAreCopies) {
  auto d = Document::parse("a: &x {k: [1, 2]}\nb: *x\nc: [*x, *x]\n", "run.yaml");
  ASSERT_TRUE(d.has_value()) << d.error().text();
  EXPECT_EQ(d->root().find("b")->value.find("k")->value.items.size(), 2u);
  EXPECT_EQ(d->root().find("c")->value.items.size(), 2u);
}

class Bounded : public testing::Test {
 protected:
  void TearDown() override {
    // No bound on speed is meant: unbounded work would take hours, or all memory.
    EXPECT_LT(std::chrono::steady_clock::now() - start_, std::chrono::minutes(5));
  }
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

std::string repeat(const std::string &text, int n) {
  std::string out;
  for (int i = 0; i < n; ++i) out += text;
  return out;
}

TEST_F(Bounded, AliasBombs) {
  std::string bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 30; ++i)
    bomb += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [" +
            repeat("*a" + std::to_string(i - 1) + ", ", 9) + "*a" + std::to_string(i - 1) + "]\n";
  expect_at(error_of(bomb), 4, 5, "more than 20000 values");
  // Few values, much text.
  std::string text =
      "a: &a '" + std::string(100'000, 'x') + "'\nb: [" + repeat("*a, ", 1000) + "]\n";
  expect_at(error_of(text), 2, error_of(text).column, "bytes of text");
  expect_at(error_of("a: &a [*a]\n"), 1, 8, "inside of what it stands for");
  // Depth by way of aliases.
  std::string deep = "a0: &a0 [[x]]\n";
  for (int i = 1; i < 40; ++i)
    deep += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [*a" + std::to_string(i - 1) +
            "]\n";
  EXPECT_NE(error_of(deep).message.find("levels deep"), std::string::npos);
}

TEST_F(Bounded, Nesting) {
  for (const std::string open : {"[", "{a: ", "- ", "[{x: ", "? "})
    EXPECT_FALSE(error_of("k:\n  " + repeat(open, 100'000)).message.empty());
  for (const auto &[open, close] :
       {std::pair{"[", "]"}, {"{a: ", "}"}, {"[{x: ", "}]"}, {"- ", ""}})
    EXPECT_NE(error_of("k:\n  " + repeat(open, 5000) + "x" + repeat(close, 5000))
                  .message.find("levels deep"),
              std::string::npos)
        << open;
  std::string block;
  for (int i = 0; i < 1000; ++i) block += std::string(static_cast<std::size_t>(i), ' ') + "a:\n";
  EXPECT_NE(error_of(block).message.find("levels deep"), std::string::npos);
  auto fits = Document::parse("k: " + repeat("[", 31) + repeat("]", 31), "run.yaml");
  EXPECT_TRUE(fits.has_value()) << fits.error().text();
  EXPECT_FALSE(Document::parse("k: " + repeat("[", 32) + repeat("]", 32), "run.yaml").has_value());
}

TEST_F(Bounded, LargeAndStrangeFiles) {
  expect_at(error_of(std::string((1 << 20) + 1, ' ')), 1, 1, "larger than");
  EXPECT_NE(error_of("k: [" + repeat("1,", 500'000) + "]").message.find("more than 20000 values"),
            std::string::npos);
  std::string keys;
  for (int i = 0; i < 30'000; ++i) keys += "k" + std::to_string(i) + ": 1\n";
  EXPECT_NE(error_of(keys).message.find("more than 20000 values"), std::string::npos);
  // Whatever these mean, they must end.
  for (const std::string piece :
       {"? ", ": ", "-", "!", "&a ", "*a ", "%TAG ! !\n", "# x\n", "'", "\"", "\t",
        "a: b: ", "<<: ", "|\n", ">-\n ", "---\n", "...\n", ", ", "\\"})
    (void)Document::parse(repeat(piece, 1 << 16), "run.yaml");
}

/// Any small change of a file ends in a document or an error with a place.
TEST_F(Bounded, EveryByteChanged) {
  const std::string good =
      "version: 1\nengine: &e\n  pin: {\"*\": 'x'}\n  list: [a, *e2, |-]\njobs:\n- op: >-\n    x\n";
  const std::string bytes = " \n:-[]{},&*!|>'\"%@#\\?ab0~\t\r\x7f\xc3";
  int parsed = 0, refused = 0;
  for (std::size_t i = 0; i < good.size(); ++i)
    for (char c : bytes) {
      std::string text = good;
      text[i] = c;
      auto d = Document::parse(text, "run.yaml");
      if (d) {
        ++parsed;
        continue;
      }
      ++refused;
      EXPECT_GE(d.error().line, 1) << text;
      EXPECT_GE(d.error().column, 1) << text;
      EXPECT_FALSE(d.error().excerpt.empty());
    }
  EXPECT_GT(refused, 100);
  for (std::size_t i = 0; i < good.size(); ++i)
    (void)Document::parse(good.substr(0, i), "run.yaml");
}

TEST(Document, Overrides) {
  auto d = Document::parse("a:\n  b: 1\nl:\n  - {name: one, k: 1}\n  - {k: 2}\nn:\n", "run.yaml");
  ASSERT_TRUE(d.has_value());
  ASSERT_TRUE(d->set("a.b=2").has_value());
  EXPECT_EQ(d->root().find("a")->value.find("b")->value.value, "2");
  EXPECT_EQ(d->root().find("a")->value.find("b")->value.place.source, 1);
  ASSERT_TRUE(d->set("l.one.k=7").has_value());
  ASSERT_TRUE(d->set("l.1.k=[x, {y: z}]").has_value());
  ASSERT_TRUE(d->set("n.new.deep=x=y").has_value());
  ASSERT_TRUE(d->set("e=").has_value());
  EXPECT_EQ(d->root().find("l")->value.items[0].find("k")->value.value, "7");
  EXPECT_EQ(d->root().find("l")->value.items[1].find("k")->value.items.size(), 2u);
  EXPECT_EQ(d->root().find("n")->value.find("new")->value.find("deep")->value.value, "x=y");
  EXPECT_TRUE(d->root().find("e")->value.quoted);

  const auto refused = [&](const std::string &text, const std::string &part) {
    const Status s = d->set(text);
    ASSERT_FALSE(s.has_value()) << text;
    EXPECT_EQ(s.error().code, ErrorCode::usage);
    EXPECT_NE(s.error().message.find(part), std::string::npos) << s.error().text();
    EXPECT_NE(s.error().message.find("--set"), std::string::npos);
  };
  refused("a.b", "write key=value");
  refused("=1", "write key=value");
  refused("a..b=1", "a part of the key is empty");
  refused("a.b.c=1", "'c' lies under a plain value");
  refused("l.2.k=1", "no item 2; the list has 2");
  refused("l.99999999999999999999.k=1", "no item named");
  refused("l.onn.k=1", "did you mean 'one'?");
  refused("a.b=[1", "quote the value?");
  refused("a.b=\xff", "UTF-8");
  refused(repeat("x.", 40) + "x=1", "more than 32 parts");
}

}  // namespace
}  // namespace switchyard::config
