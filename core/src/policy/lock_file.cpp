// SPDX-License-Identifier: Apache-2.0
#include "policy/lock_file.hpp"

#include <fmt/format.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "io/file.hpp"

namespace switchyard {
namespace {

using Json = nlohmann::json;

constexpr int kSchema = 1;
constexpr std::uint64_t kMaxBytes = 64u << 20;

/// The key in words: op, threads, and each number of the shape by its class, so that every size of
/// a class finds the entry, whatever its data's alignment.
std::string class_of(const Decision &d) {
  Shape classes;
  for (const auto &[name, value] : d.described.items()) {
    const auto number = d.described.integer(name, 0, INT64_MIN, INT64_MAX);
    classes.set(name, number ? fmt::format("c{}", KeyBuilder::size_class(*number)) : value);
  }
  return fmt::format("{} | threads={} | {}", all_ops()[d.op]->id(), d.threads, classes.text());
}

Error broken(const std::string &path, std::string why) {
  Error e;
  e.code = ErrorCode::io;
  e.message =
      "not a lock file: " + std::move(why) + "; write it anew with switchyard tune --lock FILE";
  e.file = path;
  return e;
}

}  // namespace

Result<LockFile> LockFile::load(const std::string &path) {
  const auto text = read_text_file(path, kMaxBytes);
  if (!text) return tl::unexpected(text.error());
  const Json json = Json::parse(*text, nullptr, false);
  if (!json.is_object()) return tl::unexpected(broken(path, "no JSON object"));
  const auto schema = json.find("schema");
  if (schema == json.end() || *schema != kSchema)
    return tl::unexpected(broken(path, fmt::format("schema {} is expected", kSchema)));
  const auto entries = json.find("decisions");
  if (entries == json.end() || !entries->is_object())
    return tl::unexpected(broken(path, "it has no decisions"));
  LockFile lock;
  lock.path_ = path;
  for (const auto &[name, value] : entries->items()) {
    const auto word = [&](const char *key) {
      const auto it = value.is_object() ? value.find(key) : value.end();
      return value.is_object() && it != value.end() && it->is_string() ? it->get<std::string>()
                                                                       : std::string();
    };
    Entry entry{word("kernel"), word("plugin_hash")};
    if (entry.kernel.empty() || entry.hash.empty())
      return tl::unexpected(broken(path, "the decision '" + name + "' names no kernel and hash"));
    lock.entries_[name] = std::move(entry);
  }
  return lock;
}

Status LockFile::save(const std::string &path, const std::vector<const Decision *> &decisions) {
  Json entries = Json::object();
  std::error_code error;
  if (std::filesystem::exists(path, error)) {
    const auto old = load(path);
    if (!old) return tl::unexpected(old.error());
    for (const auto &[name, e] : old->entries_)
      entries[name] = {{"kernel", e.kernel}, {"plugin_hash", e.hash}};
  }
  for (const Decision *d : decisions) {
    const std::lock_guard lock(const_cast<Decision *>(d)->mutex);
    const Choice *chosen = d->chosen.load(std::memory_order_acquire);
    if (chosen == nullptr) chosen = d->incumbent;  // in a trial, or opened again
    if (chosen != nullptr)
      entries[class_of(*d)] = {{"kernel", chosen->candidate->name},
                               {"plugin_hash", chosen->candidate->hash},
                               {"shape", d->shape}};
  }
  const Json json{{"schema", kSchema}, {"decisions", entries}};
  return write_file(path, json.dump(1) + "\n");
}

std::optional<LockFile::Entry> LockFile::find(const Decision &decision) const {
  const auto it = entries_.find(class_of(decision));
  return it == entries_.end() ? std::nullopt : std::optional(it->second);
}

}  // namespace switchyard
