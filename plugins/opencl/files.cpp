// SPDX-License-Identifier: Apache-2.0
#include "files.hpp"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>

namespace switchyard::opencl {
namespace {

constexpr std::size_t kSealSize = 17;  // a line break and 16 hexadecimal digits

bool write_all(int fd, std::string_view data) {
  while (!data.empty()) {
    const ssize_t n = ::write(fd, data.data(), data.size());
    if (n <= 0) return false;
    data.remove_prefix(static_cast<std::size_t>(n));
  }
  return true;
}

/// Makes the folder and those above it.
void make_folders(const std::string &path) {
  for (std::size_t at = 1; at != std::string::npos;) {
    at = path.find('/', at + 1);
    (void)::mkdir(path.substr(0, at).c_str(), 0700);
  }
}

bool only_mine(const std::string &folder) {
  struct stat s {};
  return ::stat(folder.c_str(), &s) == 0 && S_ISDIR(s.st_mode) && s.st_uid == ::geteuid() &&
         (s.st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

}  // namespace

std::uint64_t hash_of(std::string_view text, std::uint64_t seed) noexcept {
  for (const char c : text) seed = (seed ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return seed;
}

std::string hex(std::uint64_t value) {
  char text[17];
  snprintf(text, sizeof(text), "%016llx", static_cast<unsigned long long>(value));
  return text;
}

std::string cache_folder(const sy_host *host) {
  std::string folder;
  const char *given = host->get_setting(host, "cache_dir");
  const char *xdg = secure_getenv("XDG_CACHE_HOME"), *home = secure_getenv("HOME");
  if (given != nullptr && given[0] == '/')
    folder = std::string(given) + "/opencl";
  else if (xdg != nullptr && xdg[0] == '/')
    folder = std::string(xdg) + "/switchyard/opencl";
  else if (home != nullptr && home[0] == '/')
    folder = std::string(home) + "/.cache/switchyard/opencl";
  else
    return "";
  make_folders(folder);
  return only_mine(folder) ? folder : "";
}

std::optional<std::string> read_file(const std::string &path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return std::nullopt;
  std::string text;
  char buffer[16384];
  ssize_t n = 0;
  while ((n = ::read(fd, buffer, sizeof(buffer))) > 0)
    text.append(buffer, static_cast<std::size_t>(n));
  ::close(fd);
  if (n < 0) return std::nullopt;
  return text;
}

std::optional<std::string> read_sealed(const std::string &path) {
  auto text = read_file(path);
  if (!text || text->size() < kSealSize) return std::nullopt;
  const std::size_t size = text->size() - kSealSize;
  const std::string_view data(text->data(), size);
  if (text->compare(size, kSealSize, "\n" + hex(hash_of(data))) != 0) return std::nullopt;
  text->resize(size);
  return text;
}

void write_sealed(const std::string &path, std::string_view data) {
  std::string temporary = path + ".XXXXXX";
  const int fd = ::mkostemp(temporary.data(), O_CLOEXEC);
  if (fd < 0) return;
  const std::string seal = "\n" + hex(hash_of(data));
  const bool written = write_all(fd, data) && write_all(fd, seal);
  ::close(fd);
  if (!written || ::rename(temporary.c_str(), path.c_str()) != 0) ::unlink(temporary.c_str());
}

}  // namespace switchyard::opencl
