// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Verdicts that outlive the process: which plugin files were probed, which kernels passed the gate
/// of which shape class. One document a plugin, named by content hash.

#include <map>
#include <mutex>
#include <optional>
#include <string>

#include "store/documents.hpp"

namespace switchyard {

class VerdictStore {
 public:
  /// `directory` empty = memory of this process only.
  explicit VerdictStore(std::string directory) : documents_(std::move(directory), "verdicts") {}

  /// "" = passed, text = the reason of the failure, nullopt = never seen. [any-thread]
  std::optional<std::string> find(const std::string &hash, const std::string &key);
  /// Remembers, and merges into the document.
  void put(const std::string &hash, const std::string &key, const std::string &verdict);
  /// Kernels of the file that were found wrong at work, with the reasons.
  std::map<std::string, std::string> quarantined(const std::string &hash);
  /// Forgets a file's probe and quarantines, here and on disk: it is tried anew.
  void readmit(const std::string &hash);
  const std::string &directory() const noexcept { return documents_.directory(); }

  static constexpr const char *kProbe = "probe";
  static std::string quarantine_key(const std::string &kernel) { return "quarantine " + kernel; }

 private:
  using Entries = std::map<std::string, std::string>;
  static Entries entries_of(const nlohmann::json &json);
  Entries &entries(const std::string &hash);

  DocumentStore documents_;
  std::mutex mutex_;
  std::map<std::string, Entries> loaded_;
};

}  // namespace switchyard
