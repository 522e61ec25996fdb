// SPDX-License-Identifier: Apache-2.0
#include "config/schema.hpp"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <fstream>

#include "config/run_schema.hpp"

namespace switchyard::config {
namespace {

TEST(Schema, Numbers) {
  EXPECT_EQ(parse_integer("10"), 10);
  EXPECT_EQ(parse_integer("-3"), -3);
  EXPECT_EQ(parse_integer("1e6"), 1'000'000);
  EXPECT_EQ(parse_integer("9223372036854775807"), 9223372036854775807);
  for (const char *bad : {"", " 1", "1 ", "0x10", "1.5", "1e-1", "1e300", "nan",
                          "9223372036854775808", "1_000", "+1"})
    EXPECT_EQ(parse_integer(bad), std::nullopt) << bad;
  EXPECT_EQ(parse_number("1e-4"), 1e-4);
  for (const char *bad : {"", "nan", "inf", ".5x", "1e999", "0.1 "})
    EXPECT_EQ(parse_number(bad), std::nullopt) << bad;
  EXPECT_EQ(parse_boolean("true"), true);
  EXPECT_EQ(parse_boolean("no"), std::nullopt);
}

/// docs/configuration.md holds the tables that the schema gives. After a change of the schema:
/// SWITCHYARD_UPDATE_DOCS=1 schema_test
TEST(Schema, DocumentationIsInStep) {
  const std::string path = std::string(SWITCHYARD_SOURCE_DIR) + "/docs/configuration.md";
  const std::string begin = "<!-- keys: begin (written by tests/config/schema_test.cpp) -->\n";
  const std::string end = "<!-- keys: end -->\n";
  std::ifstream in(path);
  std::string text(std::istreambuf_iterator<char>(in), {});
  const auto from = text.find(begin), to = text.find(end);
  ASSERT_NE(from, std::string::npos);
  ASSERT_NE(to, std::string::npos);
  const std::string want = "\n" + run_markdown();
  const std::string got = text.substr(from + begin.size(), to - from - begin.size());
  if (::getenv("SWITCHYARD_UPDATE_DOCS") != nullptr && got != want) {
    text.replace(from + begin.size(), got.size(), want);
    std::ofstream(path) << text;
    return;
  }
  EXPECT_EQ(got, want) << "run this test with SWITCHYARD_UPDATE_DOCS=1";
}

TEST(Schema, EveryKeyIsDocumented) {
  const std::string text = run_markdown();
  EXPECT_EQ(text.find("|  |"), std::string::npos) << "an empty cell";
  for (const Field &field : run_section().fields) EXPECT_FALSE(field.doc.empty()) << field.name;
}

}  // namespace
}  // namespace switchyard::config
