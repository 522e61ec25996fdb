// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Verdicts that outlive the process: which plugin files were probed, which kernels passed the gate
/// of which shape class. One small JSON file a plugin, named by content hash; a bad or stale file
/// is a miss, never an error.

#include <map>
#include <mutex>
#include <optional>
#include <string>

namespace switchyard {

class VerdictStore {
 public:
  /// `directory` empty = memory of this process only.
  explicit VerdictStore(std::string directory);

  /// "" = passed, text = the reason of the failure, nullopt = never seen. [any-thread]
  std::optional<std::string> find(const std::string &hash, const std::string &key);
  /// Remembers, and merges into the file under a lock. A disk that refuses costs one warning.
  void put(const std::string &hash, const std::string &key, const std::string &verdict);
  const std::string &directory() const noexcept { return directory_; }

  static constexpr const char *kProbe = "probe";

 private:
  using Entries = std::map<std::string, std::string>;
  std::string path(const std::string &hash) const;
  Entries &entries(const std::string &hash);

  std::string directory_;
  std::mutex mutex_;
  std::map<std::string, Entries> loaded_;
  bool warned_ = false;
};

}  // namespace switchyard
