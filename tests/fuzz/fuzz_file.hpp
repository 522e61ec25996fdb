// SPDX-License-Identifier: Apache-2.0
#pragma once
/// The fuzzer's bytes as a file that the readers can open: in memory, reached through /proc.

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <string>

namespace switchyard::fuzz {

class File {
 public:
  explicit File(const char *name) : fd_(::memfd_create(name, MFD_CLOEXEC)) {
    if (fd_ < 0) std::abort();
    path_ = "/proc/self/fd/" + std::to_string(fd_);
  }
  const std::string &path() const noexcept { return path_; }
  void set(const std::uint8_t *data, std::size_t size) {
    if (::ftruncate(fd_, 0) != 0 || ::pwrite(fd_, data, size, 0) != static_cast<ssize_t>(size))
      std::abort();
  }

 private:
  int fd_;
  std::string path_;
};

/// Ends the process if a promise of a reader is broken.
inline void require(bool kept) {
  if (!kept) std::abort();
}

}  // namespace switchyard::fuzz
