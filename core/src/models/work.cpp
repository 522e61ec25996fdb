// SPDX-License-Identifier: Apache-2.0
#include "models/work.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <system_error>

#include "io/file.hpp"

namespace switchyard::models {
namespace {

namespace fs = std::filesystem;

constexpr const char *kJournal = ".switchyard-journal";
constexpr std::uint64_t kLargestJournal = 1u << 30;

std::string parent_of(const std::string &path) {
  const std::string parent = fs::path(path).parent_path().string();
  return parent.empty() ? "." : parent;
}

/// Directories that cannot be synced on their file system are left to it.
void sync_directory(const std::string &path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;
  ::fsync(fd);
  ::close(fd);
}

Status check_target(const std::string &out, bool folder) {
  std::error_code ignored;
  const auto kind = fs::status(out, ignored).type();
  if (kind == fs::file_type::not_found || kind == fs::file_type::none) return {};
  if (!folder) {
    if (kind == fs::file_type::directory) return file_error(out, "cannot write: it is a directory");
    if (kind != fs::file_type::regular)
      return file_error(out, "cannot write: it is not a regular file");
    if (::access(out.c_str(), W_OK) != 0) return file_error(out, "cannot write: it is read-only");
    return {};
  }
  if (kind != fs::file_type::directory)
    return file_error(out, "cannot write a folder: a file has this name");
  if (!fs::is_empty(out, ignored))
    return file_error(out, "is a folder that is not empty; remove it or choose another name");
  return {};
}

}  // namespace

tl::unexpected<Error> WorkFolder::error(const std::string &path, const char *what) const {
  return file_error(path,
                    fmt::format("cannot {}: {}", what, std::generic_category().message(errno)));
}

WorkFolder::WorkFolder(WorkFolder &&other) noexcept
    : out_(std::move(other.out_)),
      path_(std::move(other.path_)),
      folder_(other.folder_),
      files_(std::move(other.files_)),
      descriptors_(std::exchange(other.descriptors_, {})),
      done_(std::move(other.done_)),
      extras_(std::move(other.extras_)),
      journal_(std::exchange(other.journal_, -1)) {}

WorkFolder::~WorkFolder() {
  for (int fd : descriptors_) ::close(fd);
  if (journal_ < 0) return;
  // Closing is not enough: a child that is being started may hold a copy until it runs its program.
  ::flock(journal_, LOCK_UN);
  ::close(journal_);
}

Result<WorkFolder> WorkFolder::open(const std::string &out, bool folder,
                                    const std::string &fingerprint, bool resume,
                                    std::vector<File> files) {
  WorkFolder work;
  work.out_ = out;
  while (work.out_.size() > 1 && work.out_.ends_with('/')) work.out_.pop_back();
  if (work.out_.empty() || work.out_.find('\0') != std::string::npos)
    return file_error(out, "cannot write: the name is empty or holds a NUL byte");
  if (auto ok = check_target(work.out_, folder); !ok) return tl::unexpected(ok.error());
  std::error_code ignored;
  // Through a link to what it names, as other outputs do.
  if (const fs::path real = fs::canonical(work.out_, ignored); !ignored) work.out_ = real.string();
  work.path_ = work.out_ + ".partial";
  work.folder_ = folder;
  work.files_ = std::move(files);

  const bool made = ::mkdir(work.path_.c_str(), 0777) == 0;
  if (!made && errno != EEXIST) return work.error(work.path_, "make the folder");
  const std::string journal = work.path_ + "/" + kJournal;
  if (!made && !fs::exists(journal, ignored) && !fs::is_empty(work.path_, ignored))
    return file_error(work.path_, "is in the way: it is not work of an earlier conversion");
  work.journal_ =
      ::open(journal.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0666);
  if (work.journal_ < 0) return work.error(journal, "write");
  if (::flock(work.journal_, LOCK_EX | LOCK_NB) != 0)
    return file_error(work.path_, "another process is writing this output");

  auto text = read_text_file(journal, kLargestJournal);
  if (!text) return tl::unexpected(text.error());
  const std::string head = "switchyard conversion " + fingerprint;
  std::vector<std::string> lines;
  for (std::size_t at = 0; at < text->size();) {
    const auto end = text->find('\n', at);
    if (end == std::string::npos) break;  // torn
    lines.push_back(text->substr(at, end - at));
    at = end + 1;
  }
  const bool fits = resume && !lines.empty() && lines.front() == head;
  if (fits) work.done_.assign(lines.begin() + 1, lines.end());
  // Rewritten in any case: a torn last line must not swallow the next one.
  if (::ftruncate(work.journal_, 0) != 0) return work.error(journal, "write");
  if (auto ok = work.note(head); !ok) return tl::unexpected(ok.error());
  for (const std::string &line : work.done_)
    if (auto ok = work.note(line); !ok) return tl::unexpected(ok.error());

  for (const File &file : work.files_) {
    const std::string path = work.path_ + "/" + file.name;
    const int fd = ::open(path.c_str(),
                          O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | (fits ? 0 : O_TRUNC), 0666);
    if (fd < 0) return work.error(path, "write");
    work.descriptors_.push_back(fd);
    if (::ftruncate(fd, static_cast<off_t>(file.size)) != 0) return work.error(path, "write");
  }
  return work;
}

Status WorkFolder::note(const std::string &line) {
  if (!kept()) return {};
  const std::string whole = line + "\n";
  if (::write(journal_, whole.data(), whole.size()) != static_cast<ssize_t>(whole.size()))
    return error(path_ + "/" + kJournal, "write");
  return {};
}

Status WorkFolder::write(std::size_t file, std::uint64_t offset, std::span<const std::byte> bytes) {
  if (!kept()) return {};
  while (!bytes.empty()) {
    const auto n =
        ::pwrite(descriptors_[file], bytes.data(), std::min<std::size_t>(bytes.size(), 1u << 30),
                 static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return error(path_ + "/" + files_[file].name, "write");
    bytes = bytes.subspan(static_cast<std::size_t>(n));
    offset += static_cast<std::uint64_t>(n);
  }
  return {};
}

Status WorkFolder::read(std::size_t file, std::uint64_t offset, std::span<std::byte> bytes) const {
  while (!bytes.empty()) {
    const auto n =
        ::pread(descriptors_[file], bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return error(path_ + "/" + files_[file].name, "read");
    bytes = bytes.subspan(static_cast<std::size_t>(n));
    offset += static_cast<std::uint64_t>(n);
  }
  return {};
}

Status WorkFolder::add(const std::string &name, std::string_view bytes) {
  const std::string path = path_ + "/" + name;
  std::error_code failed;
  fs::create_directories(parent_of(path), failed);
  if (failed) return file_error(path, fmt::format("cannot make its folder: {}", failed.message()));
  extras_.push_back(path);
  return write_file(path, bytes);
}

Status WorkFolder::finish() {
  if (!kept()) return {};
  for (std::size_t i = 0; i < files_.size(); ++i)
    if (::fsync(descriptors_[i]) != 0) return error(path_ + "/" + files_[i].name, "write");
  if (folder_) {
    sync_directory(path_);
    // Only an empty folder can be there: anything else makes this fail.
    if (::rename(path_.c_str(), out_.c_str()) != 0) return error(out_, "rename to");
    ::unlink((out_ + "/" + kJournal).c_str());
    sync_directory(out_);
  } else {
    const std::string file = path_ + "/" + files_.front().name;
    struct stat old = {};
    if (::stat(out_.c_str(), &old) == 0 && ::fchmod(descriptors_.front(), old.st_mode & 0777u) != 0)
      return error(file, "write");
    if (::rename(file.c_str(), out_.c_str()) != 0) return error(out_, "rename to");
    ::unlink((path_ + "/" + kJournal).c_str());
    ::rmdir(path_.c_str());
  }
  sync_directory(parent_of(out_));
  return {};
}

void WorkFolder::discard() noexcept {
  if (!kept()) return;
  for (const File &file : files_) ::unlink((path_ + "/" + file.name).c_str());
  for (const std::string &path : extras_) ::unlink(path.c_str());
  ::unlink((path_ + "/" + kJournal).c_str());
  ::rmdir(path_.c_str());
}

}  // namespace switchyard::models
