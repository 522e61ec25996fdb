// SPDX-License-Identifier: Apache-2.0
/// The conformance kit: a good plugin passes, each bad one fails where it is bad.
#include "check/check.hpp"

#include <algorithm>

#include "facade/engine_impl.hpp"
#include "support/engine_support.hpp"
#include "support/sanitized.hpp"

namespace switchyard {
namespace {

using testing::fixture_directory;

Result<check::Report> report_of(const std::string &fixture) {
  static Engine engine = testing::make_engine();
  return check::check_plugin(fixture_directory(fixture) + "/switchyard_" + fixture + ".so",
                             {engine.impl().registry->reference_path(), ""});
}

TEST(PluginCheck, AGoodPluginPassesEverySection) {
  for (const char *fixture : {"good", "newer_minor", "oldest_sizes"}) {
    const auto report = report_of(fixture);
    ASSERT_TRUE(report) << report.error().message;
    EXPECT_TRUE(report->passed()) << report->text();
    for (const char *section :
         {"file", "abi", "results", "behaviour", "threads", "leaks", "shutdown", "speed"})
      EXPECT_TRUE(std::any_of(report->items.begin(), report->items.end(),
                              [&](const check::Item &i) { return i.section == section; }))
          << section << "\n"
          << report->text();
    EXPECT_EQ(report->speed.size(), 1u);
  }
}

struct Bad {
  const char *fixture, *section, *words;
};
class BadPlugin : public ::testing::TestWithParam<Bad> {};

TEST_P(BadPlugin, FailsWhereItIsBad) {
  if (SWITCHYARD_SANITIZED && GetParam().fixture == std::string_view("leaks_memory"))
    GTEST_SKIP() << "the sanitizer's allocator does not say how much is in use";
  const auto report = report_of(GetParam().fixture);
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_FALSE(report->passed());
  const bool found =
      std::any_of(report->items.begin(), report->items.end(), [](const check::Item &i) {
        return i.state == check::State::fail && i.section == GetParam().section &&
               i.detail.find(GetParam().words) != std::string::npos;
      });
  EXPECT_TRUE(found) << report->text();
}

INSTANTIATE_TEST_SUITE_P(
    Fixtures, BadPlugin,
    ::testing::Values(Bad{"wrong_numbers", "results", "the reference says"},
                      Bad{"wrong_tails", "results", "the reference says"},
                      Bad{"nonfinite", "results", "nan"},
                      Bad{"reads_past_end", "results", "read beyond the end of input 0"},
                      Bad{"writes_past_end", "results", "output 0"},
                      Bad{"changes_inputs", "results", "modified its inputs"},
                      Bad{"crash_in_run", "results", "SIGSEGV"},
                      Bad{"crash_at_load", "file", "SIGSEGV"},
                      Bad{"leaks_memory", "leaks", "bytes of heap more after 1000 calls"},
                      Bad{"leaks_descriptors", "leaks", "file descriptors more"},
                      Bad{"leaks_threads", "leaks", "threads more"},
                      Bad{"never_polls", "cancel", "not polled once"},
                      Bad{"prints", "behaviour", "went to stdout or stderr"},
                      Bad{"changes_float_state", "behaviour", "floating-point state changed"}),
    [](const auto &tested) { return std::string(tested.param.fixture); });

TEST(PluginCheck, WhatIsNoPluginIsAnErrorNotAReport) {
  EXPECT_EQ(check::check_plugin("/no/such/file.so", {}).error().code, ErrorCode::io);
  const auto refused = report_of("abi_major_2");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::backend);
  EXPECT_NE(refused.error().message.find("built for plugin ABI 2.0"), std::string::npos);
  const auto missing = report_of("unavailable");
  ASSERT_FALSE(missing);
  EXPECT_NE(missing.error().message.find("no abacus"), std::string::npos);
}

TEST(PluginCheck, LinesSurviveTheWire) {
  check::Report report;
  EXPECT_TRUE(check::decode(check::encode(check::Item{"abi", "a name", "k@b", check::State::warn,
                                                      "a \"detail\"\nof two lines"}),
                            report));
  EXPECT_TRUE(check::decode(check::encode(check::Speed{"k@b", "n=1", 1.5, 3}), report));
  EXPECT_FALSE(check::decode("begin something", report));
  EXPECT_FALSE(check::decode("{}", report));
  ASSERT_EQ(report.items.size(), 1u);
  EXPECT_EQ(report.items[0].detail, "a \"detail\"\nof two lines");
  EXPECT_EQ(report.items[0].state, check::State::warn);
  ASSERT_EQ(report.speed.size(), 1u);
}

}  // namespace
}  // namespace switchyard
