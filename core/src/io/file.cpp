// SPDX-License-Identifier: Apache-2.0
#include "io/file.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <memory>
#include <system_error>
#include <utility>

#include "base/checked.hpp"

namespace switchyard {
namespace {

constexpr std::size_t kLargestTransfer = 1u << 30;  // one read or write moves at most 2 GiB

/// errno in words, without strerror's shared buffer.
std::string reason(int error) { return std::generic_category().message(error); }

std::string parent_of(const std::string &path) {
  const auto slash = path.find_last_of('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

constexpr std::string_view kTemporaryPrefix = ".switchyard-", kTemporarySuffix = ".tmp";

Result<std::string> temporary_name(const std::string &path, const std::string &directory) {
  std::uint64_t random = 0;
  if (::getrandom(&random, sizeof random, 0) != sizeof random)
    return file_error(path, "cannot write: no random name to be had: " + reason(errno));
  return fmt::format("{}/{}{:016x}{}", directory, kTemporaryPrefix, random, kTemporarySuffix);
}

}  // namespace

tl::unexpected<Error> file_error(const std::string &path, std::string message, ErrorCode code) {
  Error error;
  error.code = code;
  error.message = std::move(message);
  error.file = path;
  return tl::unexpected<Error>(std::move(error));
}

InputFile::InputFile(std::string path, int fd, std::uint64_t size) noexcept
    : path_(std::move(path)), fd_(fd), size_(size) {}

InputFile::InputFile(InputFile &&other) noexcept
    : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)), size_(other.size_) {}

InputFile &InputFile::operator=(InputFile &&other) noexcept {
  std::swap(path_, other.path_);
  std::swap(fd_, other.fd_);
  std::swap(size_, other.size_);
  return *this;
}

InputFile::~InputFile() {
  if (fd_ >= 0) ::close(fd_);
}

Result<InputFile> InputFile::open(const std::string &path) {
  if (path.find('\0') != std::string::npos) return file_error(path, "a file name holds a NUL byte");
  // Without O_NONBLOCK, opening a named pipe would wait for a writer.
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (fd < 0) return file_error(path, "cannot open: " + reason(errno));
  InputFile file(path, fd, 0);
  struct stat info = {};
  if (::fstat(fd, &info) != 0) return file_error(path, "cannot open: " + reason(errno));
  if (S_ISDIR(info.st_mode)) return file_error(path, "is a directory, not a file");
  if (!S_ISREG(info.st_mode)) return file_error(path, "is not a regular file");
  file.size_ = static_cast<std::uint64_t>(info.st_size);
  return file;
}

Status InputFile::read(std::uint64_t offset, std::span<std::byte> out) const {
  const auto end = checked_add<std::uint64_t>(offset, out.size());
  if (!end || *end > size_)
    return file_error(path_, fmt::format("truncated: {} bytes at offset {} are needed, but the "
                                         "file has {} bytes",
                                         out.size(), offset, size_));
  std::size_t done = 0;
  while (done < out.size()) {
    const auto n = ::pread(fd_, out.data() + done, std::min(out.size() - done, kLargestTransfer),
                           static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return file_error(path_, "cannot read: " + reason(errno));
    if (n == 0)
      return file_error(path_, fmt::format("truncated while being read: it ends at offset {}, "
                                           "but had {} bytes when opened",
                                           offset + done, size_));
    done += static_cast<std::size_t>(n);
  }
  return {};
}

Result<std::string> read_text_file(const std::string &path, std::uint64_t max_bytes) {
  auto file = InputFile::open(path);
  if (!file) return tl::unexpected(file.error());
  if (file->size() > max_bytes)
    return file_error(path, fmt::format("too large: {} bytes, at most {} are accepted here",
                                        file->size(), max_bytes));
  std::string text(file->size(), '\0');
  if (auto s = file->read(0, std::as_writable_bytes(std::span(text))); !s)
    return tl::unexpected(s.error());
  return text;
}

AtomicFile::AtomicFile(AtomicFile &&other) noexcept
    : path_(std::move(other.path_)),
      target_(std::move(other.target_)),
      temporary_(std::exchange(other.temporary_, {})),
      directory_(std::move(other.directory_)),
      fd_(std::exchange(other.fd_, -1)),
      size_(other.size_) {}

AtomicFile::~AtomicFile() {
  if (fd_ >= 0) ::close(fd_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

tl::unexpected<Error> AtomicFile::error(const char *what) const {
  return file_error(path_, fmt::format("cannot {}: {}", what, reason(errno)));
}

Result<AtomicFile> AtomicFile::create(const std::string &path) {
  if (path.empty()) return file_error(path, "cannot write: the file name is empty");
  if (path.find('\0') != std::string::npos) return file_error(path, "a file name holds a NUL byte");
  AtomicFile file;
  file.path_ = path;
  file.target_ = path;
  struct stat info = {};
  mode_t mode = 0666;  // less the umask
  const bool exists = ::stat(path.c_str(), &info) == 0;
  if (exists) {
    if (S_ISDIR(info.st_mode)) return file_error(path, "cannot write: it is a directory");
    if (!S_ISREG(info.st_mode)) return file_error(path, "cannot write: it is not a regular file");
    // Renaming over it would work, and would undo the protection that somebody chose.
    if (::access(path.c_str(), W_OK) != 0) return file.error("write");
    const std::unique_ptr<char, decltype(&std::free)> real(::realpath(path.c_str(), nullptr),
                                                           &std::free);
    if (!real) return file.error("write");
    file.target_ = real.get();
    mode = info.st_mode & 0777u;
  }
  file.directory_ = parent_of(file.target_);
  for (int attempt = 0; file.fd_ < 0; ++attempt) {
    auto name = temporary_name(path, file.directory_);
    if (!name) return tl::unexpected(name.error());
    file.fd_ = ::open(name->c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
    if (file.fd_ >= 0)
      file.temporary_ = *name;
    else if (errno != EEXIST || attempt == 8)
      return file.error("write");
  }
  if (exists && ::fchmod(file.fd_, mode) != 0) return file.error("write");
  return file;
}

Status AtomicFile::write_at(std::uint64_t offset, std::span<const std::byte> bytes) {
  std::size_t done = 0;
  while (done < bytes.size()) {
    const auto n =
        ::pwrite(fd_, bytes.data() + done, std::min(bytes.size() - done, kLargestTransfer),
                 static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return error("write");
    done += static_cast<std::size_t>(n);
  }
  return {};
}

Status AtomicFile::append(std::span<const std::byte> bytes) {
  auto status = write_at(size_, bytes);
  if (status) size_ += bytes.size();
  return status;
}

Status AtomicFile::commit() {
  if (::fsync(fd_) != 0) return error("write");
  // After a failed close, errors of late writes would be lost; the descriptor is gone either way.
  if (::close(std::exchange(fd_, -1)) != 0) return error("write");
  if (::rename(temporary_.c_str(), target_.c_str()) != 0) return error("rename to");
  temporary_.clear();
  const int directory = ::open(directory_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (directory < 0) return {};  // writable but not readable: the rename stands, only unsynced
  const int synced = ::fsync(directory);
  const int failure = errno;
  ::close(directory);
  errno = failure;
  if (synced != 0 && failure != EINVAL) return error("make durable");  // EINVAL: not offered here
  return {};
}

bool is_temporary_name(std::string_view name) noexcept {
  return name.starts_with(kTemporaryPrefix) && name.ends_with(kTemporarySuffix);
}

Status write_file(const std::string &path, std::string_view bytes) {
  auto file = AtomicFile::create(path);
  if (!file) return tl::unexpected(file.error());
  if (auto s = file->append(bytes); !s) return s;
  return file->commit();
}

}  // namespace switchyard
