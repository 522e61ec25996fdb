// SPDX-License-Identifier: Apache-2.0
/// What is kept on disk survives: killed writers, full disks, damage, other versions, rivals.
#include "store/documents.hpp"

#include <gtest/gtest.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>

#include "host/log.hpp"
#include "store/timings.hpp"
#include "support/engine_support.hpp"

namespace switchyard {
namespace {

using Json = nlohmann::json;
using testing::TemporaryDirectory;

std::string slurp(const std::string &path) {
  std::ifstream in(path);
  return {std::istreambuf_iterator<char>(in), {}};
}
void spill(const std::string &path, const std::string &text) { std::ofstream(path) << text; }

const Status kQuiet = set_log_level("off");

TEST(Documents, WhatIsMergedIsReadBackAlsoByOthers) {
  const TemporaryDirectory dir;
  DocumentStore a(dir.path(), "timings"), b(dir.path(), "timings");
  a.merge("x", {{"one", 1}});
  b.merge("x", {{"two", {{"deep", "text"}}}});
  EXPECT_EQ(a.read("x"), (Json{{"one", 1}, {"two", {{"deep", "text"}}}}));
  a.merge("x", {{"one", nullptr}});
  EXPECT_EQ(b.read("x"), (Json{{"two", {{"deep", "text"}}}}));
  EXPECT_EQ(b.read("never"), Json::object());
  EXPECT_EQ(a.trouble() + b.trouble(), "");
  EXPECT_NE(slurp(a.path("x")).find("\n"), std::string::npos) << "people read it too";
}

TEST(Documents, DamageIsAMissWithAReasonAndTheFileIsMovedAside) {
  const TemporaryDirectory dir;
  DocumentStore writer(dir.path(), "timings");
  writer.merge("x", {{"some", "entry"}, {"other", 2}});
  const std::string good = slurp(writer.path("x"));
  std::vector<std::string> bad{"", "{", "[]", "null", good.substr(0, good.size() / 2)};
  for (std::size_t at = 0; at < good.size(); at += 7) {
    bad.push_back(good);
    bad.back()[at] ^= 0x04;
  }
  std::string future = good;
  future.replace(future.find("\"schema\": 2"), 11, "\"schema\": 9");
  bad.push_back(future);
  int refused = 0;
  for (const std::string &text : bad) {
    spill(writer.path("x"), text);
    DocumentStore reader(dir.path(), "timings");
    const Json got = reader.read("x");
    if (got == Json{{"some", "entry"}, {"other", 2}}) continue;  // white space or a comment key
    EXPECT_EQ(got, Json::object()) << text;
    EXPECT_NE(reader.trouble(), "") << text;
    EXPECT_TRUE(std::filesystem::exists(writer.path("x") + ".bad"));
    EXPECT_FALSE(std::filesystem::exists(writer.path("x")));
    reader.merge("x", {{"new", 1}});
    EXPECT_EQ(DocumentStore(dir.path(), "timings").read("x"), (Json{{"new", 1}}));
    ++refused;
  }
  EXPECT_GT(refused, 20);
}

TEST(Documents, AWriterKilledAtAnySystemCallLeavesOldOrNew) {
  const TemporaryDirectory dir;
  const Json old{{"a", 1}}, changed{{"a", 2}, {"b", std::string(20'000, 'x')}};
  int kills = 0, old_found = 0, new_found = 0;
  for (int stop_at = 1; stop_at < 2000; ++stop_at) {
    std::filesystem::remove_all(dir.path() + "/store");
    DocumentStore(dir.path() + "/store", "timings").merge("x", old);
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      if (ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) _exit(77);
      raise(SIGSTOP);
      DocumentStore(dir.path() + "/store", "timings").merge("x", changed);
      _exit(0);
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77) GTEST_SKIP() << "ptrace is not permitted";
    bool ended = false;
    for (int stops = 0; stops < stop_at && !ended; ++stops) {
      ptrace(PTRACE_SYSCALL, child, nullptr, nullptr);
      ASSERT_EQ(waitpid(child, &status, 0), child);
      ended = WIFEXITED(status) || WIFSIGNALED(status);
    }
    if (!ended) {
      kill(child, SIGKILL);
      waitpid(child, &status, 0);
      ++kills;
    }
    DocumentStore reader(dir.path() + "/store", "timings");
    const Json found = reader.read("x");
    EXPECT_TRUE(found == old || found == changed) << "killed at stop " << stop_at;
    EXPECT_EQ(reader.trouble(), "") << "killed at stop " << stop_at;
    ++(found == old ? old_found : new_found);
    reader.merge("x", {{"c", 3}});
    for (const auto &entry : std::filesystem::directory_iterator(dir.path() + "/store"))
      EXPECT_EQ(entry.path().filename().string().find(".tmp"), std::string::npos) << entry.path();
    if (ended) break;
  }
  EXPECT_GT(kills, 20);
  EXPECT_GT(old_found, 0);
  EXPECT_GT(new_found, 0);
  std::printf("killed at %d stops: %d times the old document, %d times the new one\n", kills,
              old_found, new_found);
}

TEST(Documents, TwoProcessesWritingAtOnceLoseNothing) {
  const TemporaryDirectory dir;
  constexpr int kProcesses = 4, kEntries = 25;
  std::vector<pid_t> children;
  for (int p = 0; p < kProcesses; ++p) {
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      DocumentStore store(dir.path(), "timings");
      for (int i = 0; i < kEntries; ++i)
        store.merge("x", {{std::to_string(p) + "-" + std::to_string(i), i}});
      _exit(store.trouble().empty() ? 0 : 1);
    }
    children.push_back(child);
  }
  for (const pid_t child : children) {
    int status = 0;
    waitpid(child, &status, 0);
    EXPECT_EQ(status, 0);
  }
  EXPECT_EQ(DocumentStore(dir.path(), "timings").read("x").size(),
            static_cast<std::size_t>(kProcesses) * kEntries);
}

/// Runs `body` in a child, so that limits and users can be changed; its exit status.
template <class Body>
int in_child(Body body) {
  const pid_t child = fork();
  if (child == 0) _exit(body());
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(Documents, ADiskThatRefusesCostsOneWarningAndKeepsTheOld) {
  const TemporaryDirectory dir;
  DocumentStore(dir.path(), "timings").merge("x", {{"old", 1}});
  EXPECT_EQ(in_child([&] {
              // As on a full disk: writing fails after the first bytes.
              signal(SIGXFSZ, SIG_IGN);
              const rlimit full{64, 64};
              setrlimit(RLIMIT_FSIZE, &full);
              DocumentStore store(dir.path(), "timings");
              const Json merged = store.merge("x", {{"new", std::string(5000, 'y')}});
              return merged.size() == 2 && !store.trouble().empty() ? 0 : 1;
            }),
            0);
  EXPECT_EQ(DocumentStore(dir.path(), "timings").read("x"), (Json{{"old", 1}}));
  EXPECT_EQ(in_child([&] {
              DocumentStore store(dir.path() + "/x.json/below-a-file", "timings");
              const Json merged = store.merge("y", {{"new", 1}});
              return merged == Json{{"new", 1}} && !store.trouble().empty() ? 0 : 1;
            }),
            0);
}

TEST(Documents, AReadOnlyDirectoryIsReadAndNotWritten) {
  const TemporaryDirectory dir;
  DocumentStore(dir.path(), "timings").merge("x", {{"old", 1}});
  std::filesystem::permissions(dir.path(), std::filesystem::perms(0555));
  std::filesystem::permissions(dir.path() + "/x.json", std::filesystem::perms(0444));
  EXPECT_EQ(in_child([&] {
              if (geteuid() == 0 && setuid(65534) != 0) return 2;
              DocumentStore store(dir.path(), "timings");
              if (store.read("x") != Json{{"old", 1}}) return 3;
              store.merge("x", {{"new", 1}});
              return store.trouble().empty() ? 4 : 0;
            }),
            0);
  std::filesystem::permissions(dir.path(), std::filesystem::perms(0755));
  EXPECT_EQ(DocumentStore(dir.path(), "timings").read("x"), (Json{{"old", 1}}));
}

TEST(Timings, AreFoundAgainOnlyForTheSamePluginRuntimeThreadsAndShape) {
  const TemporaryDirectory dir;
  Candidate c;
  c.name = "op.kernel@plugin";
  c.plugin_id = "plugin";
  c.hash = "0123456789abcdef";
  c.runtime_id = "lib 1";
  const Shape shape = *Shape::parse("n=1000,dtype=f32"), other = *Shape::parse("n=2000,dtype=f32");
  { TimingStore(dir.path()).record(c, 2, shape, {1500, 1400, 1600, 9, {1000, 4000}}); }
  TimingStore store(dir.path());
  const auto found = store.find(c, 2, shape);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->ns, 1500);
  EXPECT_EQ(found->samples, 9);
  EXPECT_EQ(found->work.bytes, 4000);
  EXPECT_FALSE(store.find(c, 1, shape));
  EXPECT_NE(store.why_missing(c, 1, shape).find("threads"), std::string::npos);
  EXPECT_FALSE(store.find(c, 2, other));
  EXPECT_NE(store.why_missing(c, 2, other).find("other sizes"), std::string::npos);
  EXPECT_EQ(store.predict(c, 2, other, {2000, 8000}).points, 1);
  EXPECT_EQ(store.predict(c, 2, *Shape::parse("n=2000,dtype=f16"), {}).points, 0);
  c.runtime_id = "lib 2";
  EXPECT_FALSE(store.find(c, 2, shape));
  EXPECT_NE(store.why_missing(c, 2, shape).find("another driver or library"), std::string::npos);
  c.hash = "fedcba9876543210";
  EXPECT_FALSE(store.find(c, 2, shape));
  EXPECT_NE(store.why_missing(c, 2, shape).find("never timed"), std::string::npos);
}

}  // namespace
}  // namespace switchyard
