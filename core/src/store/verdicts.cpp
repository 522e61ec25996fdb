// SPDX-License-Identifier: Apache-2.0
#include "store/verdicts.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <switchyard/plugin.h>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "host/log.hpp"
#include "io/file.hpp"

namespace switchyard {
namespace {

constexpr int kSchema = 1;
constexpr std::uint64_t kMaxBytes = 16u << 20;

/// Held while a file is read, merged and replaced; other processes wait.
class FileLock {
 public:
  explicit FileLock(const std::string &path)
      : fd_(open(path.c_str(), O_CREAT | O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0600)) {
    if (fd_ >= 0 && flock(fd_, LOCK_EX) != 0) {
      close(fd_);
      fd_ = -1;
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

std::map<std::string, std::string> parse(const std::string &text) {
  std::map<std::string, std::string> entries;
  const auto json = nlohmann::json::parse(text, nullptr, false);
  if (!json.is_object() || json.value("schema", 0) != kSchema || !json.contains("verdicts") ||
      !json["verdicts"].is_object())
    return entries;
  for (const auto &[key, value] : json["verdicts"].items())
    if (value.is_string()) entries[key] = value.get<std::string>();
  return entries;
}

}  // namespace

VerdictStore::VerdictStore(std::string directory) : directory_(std::move(directory)) {}

std::string VerdictStore::path(const std::string &hash) const {
  return directory_ + "/" + hash + ".json";
}

VerdictStore::Entries &VerdictStore::entries(const std::string &hash) {
  const auto it = loaded_.find(hash);
  if (it != loaded_.end()) return it->second;
  Entries &fresh = loaded_[hash];
  if (!directory_.empty())
    if (const auto text = read_text_file(path(hash), kMaxBytes)) fresh = parse(*text);
  return fresh;
}

std::optional<std::string> VerdictStore::find(const std::string &hash, const std::string &key) {
  std::lock_guard lock(mutex_);
  const Entries &known = entries(hash);
  const auto it = known.find(key);
  return it == known.end() ? std::nullopt : std::optional(it->second);
}

void VerdictStore::put(const std::string &hash, const std::string &key,
                       const std::string &verdict) {
  std::lock_guard lock(mutex_);
  Entries &mine = entries(hash);
  mine[key] = verdict;
  if (directory_.empty()) return;
  const auto warn = [this](std::string_view why) {
    if (!warned_)
      log(SY_LOG_WARNING, fmt::format("verdicts are not kept in {}: {}", directory_, why));
    warned_ = true;
  };
  std::error_code error;
  std::filesystem::create_directories(directory_, error);
  const FileLock file_lock(directory_ + "/lock");
  if (!file_lock.held()) return warn("its lock file cannot be opened");
  if (const auto text = read_text_file(path(hash), kMaxBytes)) {
    Entries merged = parse(*text);
    for (const auto &[k, v] : mine) merged[k] = v;
    mine = std::move(merged);
  }
  const nlohmann::json json{{"schema", kSchema}, {"verdicts", mine}};
  if (const auto written = write_file(path(hash), json.dump(1) + "\n"); !written)
    warn(written.error().message);
}

}  // namespace switchyard
