// SPDX-License-Identifier: Apache-2.0
#include "io/file.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>

#include "io_test_util.hpp"

namespace switchyard {
namespace {

using test::expect_error;
using test::Folder;
using test::read_bytes;
using test::write_bytes;

TEST(InputFile, ReadsRanges) {
  Folder f;
  write_bytes(f / "a", "0123456789");
  auto file = InputFile::open(f / "a");
  ASSERT_TRUE(file.has_value());
  EXPECT_EQ(file->size(), 10u);
  std::array<char, 4> part{};
  ASSERT_TRUE(file->read(3, std::as_writable_bytes(std::span(part))).has_value());
  EXPECT_EQ(std::string(part.data(), 4), "3456");
  ASSERT_TRUE(file->read(10, {}).has_value());
}

TEST(InputFile, SaysWhatIsWrong) {
  Folder f;
  expect_error(InputFile::open(f / "none"), ErrorCode::io, "No such file", f / "none");
  expect_error(InputFile::open(f.path()), ErrorCode::io, "is a directory", f.path());
  expect_error(InputFile::open("/dev/null"), ErrorCode::io, "not a regular file");
  ASSERT_EQ(::mkfifo((f / "pipe").c_str(), 0600), 0);
  expect_error(InputFile::open(f / "pipe"), ErrorCode::io, "not a regular file");  // must not wait
  expect_error(InputFile::open(std::string("a\0b", 3)), ErrorCode::io, "NUL");
  if (::geteuid() != 0) {
    write_bytes(f / "secret", "x");
    ASSERT_EQ(::chmod((f / "secret").c_str(), 0), 0);
    expect_error(InputFile::open(f / "secret"), ErrorCode::io, "Permission denied");
  }
}

TEST(InputFile, RefusesRangesPastTheEnd) {
  Folder f;
  write_bytes(f / "a", "0123456789");
  auto file = InputFile::open(f / "a");
  ASSERT_TRUE(file.has_value());
  std::array<std::byte, 4> part{};
  expect_error(file->read(7, part), ErrorCode::io, "truncated", f / "a");
  expect_error(file->read(~std::uint64_t{0} - 1, part), ErrorCode::io, "truncated");
}

TEST(InputFile, TruncationWhileOpenIsAnError) {
  Folder f;
  write_bytes(f / "a", std::string(100'000, 'x'));
  auto file = InputFile::open(f / "a");
  ASSERT_TRUE(file.has_value());
  ASSERT_EQ(::truncate((f / "a").c_str(), 50'000), 0);
  std::vector<std::byte> all(100'000);
  expect_error(file->read(0, all), ErrorCode::io, "truncated while being read");
  ASSERT_TRUE(file->read(0, std::span(all).first(50'000)).has_value());
}

TEST(ReadTextFile, Limits) {
  Folder f;
  write_bytes(f / "a", "hello");
  EXPECT_EQ(read_text_file(f / "a", 5).value(), "hello");
  expect_error(read_text_file(f / "a", 4), ErrorCode::io, "too large");
}

TEST(AtomicFile, ReplacesInOneStep) {
  Folder f;
  write_bytes(f / "a", "old");
  {
    auto file = AtomicFile::create(f / "a");
    ASSERT_TRUE(file.has_value());
    ASSERT_TRUE(file->append(std::string_view("....new")).has_value());
    ASSERT_TRUE(file->write_at(0, std::as_bytes(std::span("very", 4))).has_value());
    EXPECT_EQ(read_bytes(f / "a"), "old");
    EXPECT_EQ(f.files(), 2u);
    ASSERT_TRUE(file->commit().has_value());
  }
  EXPECT_EQ(read_bytes(f / "a"), "verynew");
  EXPECT_EQ(f.files(), 1u);
}

TEST(AtomicFile, WithoutCommitNothingChanges) {
  Folder f;
  write_bytes(f / "a", "old");
  {
    auto file = AtomicFile::create(f / "a");
    ASSERT_TRUE(file.has_value());
    ASSERT_TRUE(file->append(std::string_view("half")).has_value());
  }
  EXPECT_EQ(read_bytes(f / "a"), "old");
  EXPECT_EQ(f.files(), 1u);
}

TEST(AtomicFile, KeepsModeAndFollowsLinks) {
  Folder f;
  write_bytes(f / "real", "old");
  ASSERT_EQ(::chmod((f / "real").c_str(), 0640), 0);
  ASSERT_EQ(::symlink("real", (f / "link").c_str()), 0);
  ASSERT_TRUE(write_file(f / "link", "new").has_value());
  EXPECT_TRUE(std::filesystem::is_symlink(f / "link"));
  EXPECT_EQ(read_bytes(f / "real"), "new");
  struct stat info = {};
  ASSERT_EQ(::stat((f / "real").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777u, 0640u);
}

TEST(AtomicFile, NewFilesObeyTheUmask) {
  Folder f;
  const mode_t before = ::umask(027);
  ASSERT_TRUE(write_file(f / "a", "x").has_value());
  ::umask(before);
  struct stat info = {};
  ASSERT_EQ(::stat((f / "a").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777u, 0640u);
}

TEST(AtomicFile, RefusesWhatIsNoPlainFile) {
  Folder f;
  expect_error(write_file(f.path(), "x"), ErrorCode::io, "is a directory");
  expect_error(write_file("/dev/null", "x"), ErrorCode::io, "not a regular file");
  expect_error(write_file(f / "no/such/folder", "x"), ErrorCode::io, "No such file");
  Status empty = write_file("", "x");
  ASSERT_FALSE(empty.has_value());
  EXPECT_TRUE(std::filesystem::is_character_file("/dev/null"));
}

TEST(AtomicFile, DoesNotOverwriteReadOnlyFiles) {
  if (::geteuid() == 0) GTEST_SKIP() << "root may write anything";
  Folder f;
  write_bytes(f / "a", "old");
  ASSERT_EQ(::chmod((f / "a").c_str(), 0444), 0);
  expect_error(write_file(f / "a", "new"), ErrorCode::io, "Permission denied");
  EXPECT_EQ(read_bytes(f / "a"), "old");
}

/// A full disk, played by a limit on file sizes, in a process of its own.
TEST(AtomicFile, FullDiskLeavesTheOldFile) {
  Folder f;
  write_bytes(f / "a", "old");
  const pid_t child = ::fork();
  if (child == 0) {
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit = {4096, 4096};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    const Status status = write_file(f / "a", std::string(100'000, 'x'));
    ::_exit(!status.has_value() && status.error().code == ErrorCode::io ? 0 : 1);
  }
  int result = 0;
  ASSERT_EQ(::waitpid(child, &result, 0), child);
  EXPECT_EQ(result, 0);
  EXPECT_EQ(read_bytes(f / "a"), "old");
  EXPECT_EQ(f.files(), 1u);
}

}  // namespace
}  // namespace switchyard
