// SPDX-License-Identifier: Apache-2.0
#include "loader/plugin_file.hpp"

#include <dlfcn.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <switchyard/plugin.h>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <vector>

namespace switchyard {
namespace {

namespace fs = std::filesystem;

struct Descriptor {
  int fd;
  ~Descriptor() {
    if (fd >= 0) close(fd);
  }
};

/// The owner of the library or program this code is part of: whoever could replace it already
/// could do as they like.
uid_t own_owner() {
  Dl_info info{};
  struct stat st {};
  if (dladdr(reinterpret_cast<void *>(&own_owner), &info) != 0 && info.dli_fname != nullptr &&
      stat(info.dli_fname, &st) == 0)
    return st.st_uid;
  return geteuid();
}

bool trusted_owner(uid_t uid) {
  static const uid_t own = own_owner();
  return uid == 0 || uid == geteuid() || uid == own;
}

constexpr mode_t kOthersWrite = S_IWGRP | S_IWOTH;

/// "" or the rule that a directory on the way breaks.
std::string check_directories(const fs::path &file) {
  bool immediate = true;
  for (fs::path directory = file.parent_path();; directory = directory.parent_path()) {
    struct stat st {};
    if (stat(directory.c_str(), &st) != 0)
      return fmt::format("its directory {} cannot be examined", directory.string());
    const bool others_write = (st.st_mode & kOthersWrite) != 0;
    if (others_write && (immediate || (st.st_mode & S_ISVTX) == 0))
      return fmt::format("the directory {} is writable by group or others (chmod go-w it)",
                         directory.string());
    if (!trusted_owner(st.st_uid))
      return fmt::format("the directory {} belongs to user {}, who is neither root nor you",
                         directory.string(), st.st_uid);
    immediate = false;
    if (!directory.has_relative_path()) return "";
  }
}

Result<std::string> hash_content(int fd, const std::string &path) {
  std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> state(XXH3_createState(),
                                                                 XXH3_freeState);
  if (!state) return fail(ErrorCode::out_of_memory, "no memory for hashing " + path);
  XXH3_128bits_reset(state.get());
  std::vector<char> buffer(1 << 18);
  for (off_t offset = 0;;) {
    const ssize_t got = pread(fd, buffer.data(), buffer.size(), offset);
    if (got < 0)
      return fail(ErrorCode::backend,
                  fmt::format("{}: cannot be read: {}", path, std::strerror(errno)));
    if (got == 0) break;
    XXH3_128bits_update(state.get(), buffer.data(), static_cast<std::size_t>(got));
    offset += got;
  }
  const XXH128_hash_t hash = XXH3_128bits_digest(state.get());
  return fmt::format("{:016x}{:016x}", hash.high64, hash.low64);
}

}  // namespace

Result<PluginFile> check_plugin_file(const std::string &path) {
  const auto refuse = [&path](std::string_view why) {
    return fail(ErrorCode::backend, fmt::format("{}: {}", path, why));
  };
  std::unique_ptr<char, decltype(&std::free)> real(realpath(path.c_str(), nullptr), std::free);
  if (!real) return refuse(std::strerror(errno));
  const Descriptor file{open(real.get(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)};
  if (file.fd < 0) return refuse(fmt::format("cannot be opened: {}", std::strerror(errno)));
  struct stat st {};
  if (fstat(file.fd, &st) != 0 || !S_ISREG(st.st_mode)) return refuse("not a regular file");
  if ((st.st_mode & kOthersWrite) != 0)
    return refuse("refused: the file is writable by group or others (chmod go-w it)");
  if (!trusted_owner(st.st_uid))
    return refuse(fmt::format("refused: the file belongs to user {}, who is neither root nor you",
                              st.st_uid));
  if (const std::string broken = check_directories(real.get()); !broken.empty())
    return refuse("refused: " + broken);

  auto note = read_plugin_note(file.fd, path);
  if (!note) return tl::unexpected(note.error());
  if (note->abi_major != SY_ABI_MAJOR)
    return refuse(fmt::format(
        "built for plugin ABI {}.{}, this is {}.{}; rebuild it against this version's headers",
        note->abi_major, note->abi_minor, SY_ABI_MAJOR, SY_ABI_MINOR));
  auto hash = hash_content(file.fd, path);
  if (!hash) return tl::unexpected(hash.error());
  return PluginFile{real.get(), std::move(*hash), std::move(*note), st.st_dev, st.st_ino};
}

bool still_same(const PluginFile &file) noexcept {
  struct stat st {};
  return stat(file.path.c_str(), &st) == 0 && st.st_dev == file.device && st.st_ino == file.inode;
}

}  // namespace switchyard
