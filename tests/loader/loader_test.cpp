// SPDX-License-Identifier: Apache-2.0
/// Hostile plugin files: each is refused with its reason, and the engine works on without it.
#include <sys/stat.h>

#include <fstream>

#include "facade/engine_impl.hpp"
#include "host/float_state.hpp"
#include "support/engine_support.hpp"

namespace switchyard {
namespace {

using testing::fixture_directory;
using testing::make_engine;
using testing::test_options;

const PluginInfo *find(const std::vector<PluginInfo> &plugins, const std::string &path_part) {
  for (const PluginInfo &p : plugins)
    if (p.path.find(path_part) != std::string::npos) return &p;
  return nullptr;
}

struct Refused {
  const char *fixture;
  const char *status;
  const char *reason;  ///< part of it
};

class HostilePlugin : public ::testing::TestWithParam<Refused> {};

TEST_P(HostilePlugin, IsRefusedWithItsReasonAndTheOthersWork) {
  const Refused &want = GetParam();
  Options options = test_options();
  options.plugin_paths = {fixture_directory(want.fixture)};
  Engine engine = make_engine(options);
  const auto plugins = engine.plugins();
  const PluginInfo *info = find(plugins, std::string("switchyard_") + want.fixture);
  ASSERT_NE(info, nullptr);
  EXPECT_EQ(info->status, want.status) << info->reason;
  EXPECT_NE(info->reason.find(want.reason), std::string::npos) << info->reason;
  EXPECT_GT(std::count_if(plugins.begin(), plugins.end(),
                          [](const PluginInfo &p) { return p.status == "loaded"; }),
            1);
}

INSTANTIATE_TEST_SUITE_P(
    Files, HostilePlugin,
    ::testing::Values(
        Refused{"crash_at_load", "refused", "SIGSEGV"},
        Refused{"sigill_at_load", "refused", "instruction set that this machine lacks"},
        Refused{"exit_at_load", "refused", "ended the process"},
        Refused{"abort_at_load", "refused", "SIGABRT"}, Refused{"throws", "refused", "SIGABRT"},
        Refused{"hang_at_load", "refused", "hung"},
        Refused{"abi_major_2", "refused", "built for plugin ABI 2.0, this is 1.0"},
        Refused{"struct_too_small", "refused", "bytes"},
        Refused{"null_function", "refused", "function pointer"},
        Refused{"missing_symbol", "refused", "does not export the symbol switchyard_plugin"},
        Refused{"undefined_symbol", "refused", "undefined symbol"},
        Refused{"note_disagrees", "refused", "disagree"},
        Refused{"no_note", "refused", "not a Switchyard plugin"},
        Refused{"unavailable", "unavailable", ""}),
    [](const auto &tested) { return std::string(tested.param.fixture); });

TEST(Loader, TextAndTruncatedFilesAreRefused) {
  const testing::TemporaryDirectory directory;
  std::ofstream(directory.path() + "/text.so") << "not a library";
  {
    std::ifstream good(fixture_directory("good") + "/switchyard_good.so", std::ios::binary);
    std::string bytes((std::istreambuf_iterator<char>(good)), {});
    ASSERT_GT(bytes.size(), 1000u);
    std::ofstream(directory.path() + "/cut.so", std::ios::binary)
        << bytes.substr(0, bytes.size() / 2);
    bytes[18] = 40;  // e_machine: 32-bit ARM
    std::ofstream(directory.path() + "/arm.so", std::ios::binary) << bytes;
  }
  Options options = test_options();
  options.plugin_paths = {directory.path()};
  const auto plugins = make_engine(options).plugins();
  ASSERT_NE(find(plugins, "text.so"), nullptr);
  EXPECT_NE(find(plugins, "text.so")->reason.find("not an ELF"), std::string::npos);
  EXPECT_NE(find(plugins, "cut.so")->reason.find("truncated"), std::string::npos)
      << find(plugins, "cut.so")->reason;
  EXPECT_NE(find(plugins, "arm.so")->reason.find("another kind of processor"), std::string::npos);
}

TEST(Loader, FilesThatOthersMayWriteAreRefused) {
  const testing::TemporaryDirectory directory;
  const std::string file = directory.path() + "/switchyard_good.so";
  std::filesystem::copy(fixture_directory("good") + "/switchyard_good.so", file);
  Options options = test_options();
  options.plugin_paths = {directory.path()};
  chmod(file.c_str(), 0666);
  EXPECT_NE(find(make_engine(options).plugins(), file)->reason.find("writable by group or others"),
            std::string::npos);
  chmod(file.c_str(), 0644);
  chmod(directory.path().c_str(), 0777);
  EXPECT_NE(find(make_engine(options).plugins(), file)->reason.find("writable by group or others"),
            std::string::npos);
  chmod(directory.path().c_str(), 0700);
  EXPECT_EQ(find(make_engine(options).plugins(), file)->status, "loaded");
  if (geteuid() == 0) {
    ASSERT_EQ(chown(file.c_str(), 12345, 12345), 0);
    EXPECT_NE(find(make_engine(options).plugins(), file)->reason.find("belongs to user 12345"),
              std::string::npos);
  }
}

TEST(Loader, RelativeDirectoriesAreIgnored) {
  Options options = test_options();
  options.plugin_paths = {"tests/plugins/good"};
  Engine engine = make_engine(options);
  EXPECT_EQ(find(engine.plugins(), "switchyard_good"), nullptr);
  EXPECT_NE(engine.search_log().front().find("not an absolute path"), std::string::npos);
}

TEST(Loader, NewerMinorAndOldestSizesAreNegotiated) {
  for (const char *fixture : {"newer_minor", "oldest_sizes"}) {
    Options options = test_options();
    options.plugin_paths = {fixture_directory(fixture)};
    const auto plugins = make_engine(options).plugins();
    const PluginInfo *info = find(plugins, std::string("switchyard_") + fixture);
    ASSERT_NE(info, nullptr);
    EXPECT_EQ(info->status, "loaded") << fixture << ": " << info->reason;
    EXPECT_FALSE(info->kernels.empty());
  }
}

TEST(Loader, QuarantineOutlivesTheEngine) {
  Options options = test_options();
  const testing::TemporaryDirectory cache;
  options.cache_dir = cache.path();
  options.plugin_paths = {fixture_directory("crash_at_load")};
  (void)make_engine(options);
  // The second engine reads the verdict instead of crashing another worker.
  Engine second = make_engine(options);
  EXPECT_NE(find(second.plugins(), "crash_at_load")->reason.find("quarantined"), std::string::npos);
}

TEST(Loader, AHundredEnginesLeaveNoThreadsBehind) {
  const auto threads = [] {
    return std::distance(std::filesystem::directory_iterator("/proc/self/task"),
                         std::filesystem::directory_iterator());
  };
  (void)make_engine();
  const auto before = threads();
  for (int i = 0; i < 100; ++i) (void)make_engine();
  EXPECT_LE(threads(), before + 1);
}

TEST(FloatState, GuardSetsAndRestores) {
#if defined(__x86_64__)
  const unsigned saved = _mm_getcsr();
  const unsigned odd = 0x1F80u | 0x8000u | 0x2000u;  // flush to zero, round down
  _mm_setcsr(odd);
  {
    const FloatStateGuard guard;
    EXPECT_EQ(_mm_getcsr() & ~0x3Fu, 0x1F80u);
  }
  EXPECT_EQ(_mm_getcsr() & ~0x3Fu, odd);
  _mm_setcsr(saved);
#endif
}

}  // namespace
}  // namespace switchyard
