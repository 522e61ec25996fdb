// SPDX-License-Identifier: Apache-2.0
#include "store/documents.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <switchyard/plugin.h>
#include <sys/file.h>
#include <unistd.h>
#include <xxhash.h>

#include <cerrno>
#include <filesystem>
#include <system_error>

#include "host/log.hpp"
#include "io/file.hpp"

namespace switchyard {
namespace {

using Json = nlohmann::json;
namespace fs = std::filesystem;

constexpr int kSchema = 2;
constexpr std::uint64_t kMaxBytes = 64u << 20;

/// Held while a document is read, merged and replaced; other processes wait.
class FileLock {
 public:
  explicit FileLock(const std::string &path)
      : fd_(open(path.c_str(), O_CREAT | O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0600)) {
    if (fd_ < 0) return;
    int status = 0;
    while ((status = flock(fd_, LOCK_EX)) != 0 && errno == EINTR) {
    }
    if (status != 0) {
      const int failure = errno;
      close(fd_);
      fd_ = -1;
      errno = failure;
    }
  }
  FileLock(const FileLock &) = delete;
  FileLock &operator=(const FileLock &) = delete;
  ~FileLock() {
    if (fd_ >= 0) close(fd_);
  }
  bool held() const { return fd_ >= 0; }

 private:
  int fd_;
};

std::string checksum(const Json &entries) {
  const std::string text = entries.dump(-1, ' ', false, Json::error_handler_t::replace);
  return fmt::format("{:016x}", XXH3_64bits(text.data(), text.size()));
}

/// The entries of a document's text, or why it is not to be trusted.
Result<Json> parse(const std::string &text) {
  const Json document = Json::parse(text, nullptr, false);
  if (!document.is_object()) return fail(ErrorCode::io, "it is not JSON");
  const auto schema = document.find("schema");
  if (schema == document.end() || !schema->is_number_integer() || *schema != kSchema)
    return fail(ErrorCode::io,
                fmt::format("its schema is {}, this version reads {}",
                            schema == document.end() ? "absent" : schema->dump(), kSchema));
  const auto entries = document.find("entries");
  if (entries == document.end() || !entries->is_object())
    return fail(ErrorCode::io, "it has no entries");
  const auto sum = document.find("checksum");
  if (sum == document.end() || !sum->is_string() || sum->get<std::string>() != checksum(*entries))
    return fail(ErrorCode::io, "its checksum does not fit");
  return *entries;
}

/// Temporary files of writers that were killed. Called with the lock held: nobody else writes.
void remove_leftovers(const std::string &directory) {
  std::error_code error;
  for (fs::directory_iterator it(directory, error), end; !error && it != end; it.increment(error))
    if (is_temporary_name(it->path().filename().string())) fs::remove(it->path(), error);
}

}  // namespace

DocumentStore::DocumentStore(std::string directory, std::string what)
    : directory_(std::move(directory)), what_(std::move(what)) {}

std::string DocumentStore::trouble() const {
  const std::lock_guard lock(mutex_);
  return trouble_;
}

void DocumentStore::note(const std::string &why) {
  {
    const std::lock_guard lock(mutex_);
    trouble_ = why;
    if (std::exchange(warned_, true)) return;
  }
  log(SY_LOG_WARNING, why);
}

Json DocumentStore::load(const std::string &name) {
  const std::string file = path(name);
  const auto text = read_text_file(file, kMaxBytes);
  std::error_code error;
  if (!text) {
    if (fs::exists(file, error))
      note(fmt::format("stored {} cannot be read: {}", what_, text.error().message));
    return Json::object();
  }
  auto entries = parse(*text);
  if (entries) return std::move(*entries);
  // Kept for whoever wants to know what happened; the next writer starts afresh.
  fs::rename(file, file + ".bad", error);
  note(fmt::format("stored {} in {} are not used and measured again: {}{}", what_, file,
                   entries.error().message,
                   error ? std::string() : "; the file was moved to " + file + ".bad"));
  return Json::object();
}

Json DocumentStore::read(const std::string &name) {
  if (directory_.empty()) return Json::object();
  return load(name);
}

Json DocumentStore::merge(const std::string &name, const Json &entries, const Json &about) {
  if (directory_.empty()) return entries;
  std::error_code error;
  fs::create_directories(directory_, error);
  const FileLock lock(directory_ + "/lock");
  const int failure = errno;
  Json merged = load(name);
  for (const auto &[key, value] : entries.items()) {
    if (value.is_null())
      merged.erase(key);
    else
      merged[key] = value;
  }
  if (!lock.held()) {
    note(fmt::format("{} are not kept in {}: its lock file cannot be opened ({})", what_,
                     directory_, std::generic_category().message(failure)));
    return merged;
  }
  remove_leftovers(directory_);
  Json document{{"schema", kSchema}, {"checksum", checksum(merged)}, {"entries", merged}};
  if (!about.is_null()) document["about"] = about;
  const std::string text = document.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
  if (const auto written = write_file(path(name), text); !written)
    note(fmt::format("{} are not kept in {}: {}", what_, directory_, written.error().message));
  return merged;
}

}  // namespace switchyard
