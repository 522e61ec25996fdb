// SPDX-License-Identifier: Apache-2.0
#include "store/verdicts.hpp"

namespace switchyard {

VerdictStore::Entries VerdictStore::entries_of(const nlohmann::json &json) {
  Entries entries;
  for (const auto &[key, value] : json.items())
    if (value.is_string()) entries[key] = value.get<std::string>();
  return entries;
}

VerdictStore::Entries &VerdictStore::entries(const std::string &hash) {
  const auto it = loaded_.find(hash);
  if (it != loaded_.end()) return it->second;
  return loaded_[hash] = entries_of(documents_.read(hash));
}

std::optional<std::string> VerdictStore::find(const std::string &hash, const std::string &key) {
  const std::lock_guard lock(mutex_);
  const Entries &known = entries(hash);
  const auto it = known.find(key);
  return it == known.end() ? std::nullopt : std::optional(it->second);
}

void VerdictStore::put(const std::string &hash, const std::string &key,
                       const std::string &verdict) {
  const std::lock_guard lock(mutex_);
  Entries &mine = entries(hash);
  mine[key] = verdict;
  mine.merge(entries_of(documents_.merge(hash, {{key, verdict}})));
}

std::map<std::string, std::string> VerdictStore::quarantined(const std::string &hash) {
  const std::lock_guard lock(mutex_);
  std::map<std::string, std::string> out;
  const std::string prefix = quarantine_key("");
  for (const auto &[key, reason] : entries(hash))
    if (key.compare(0, prefix.size(), prefix) == 0 && !reason.empty())
      out[key.substr(prefix.size())] = reason;
  return out;
}

void VerdictStore::readmit(const std::string &hash) {
  const std::lock_guard lock(mutex_);
  Entries &mine = entries(hash);
  nlohmann::json gone = nlohmann::json::object();
  for (const auto &[key, reason] : mine)
    if (key == kProbe || !reason.empty()) gone[key] = nullptr;
  for (const auto &[key, value] : gone.items()) mine.erase(key);
  documents_.merge(hash, gone);
}

}  // namespace switchyard
