// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Decisions written down once and followed by every process and rank that reads them: the file of
/// Policy::frozen. Readable JSON: class of calls -> kernel and content hash of its plugin.

#include <map>
#include <optional>
#include <string>

#include "dispatcher/decision.hpp"

namespace switchyard {

class LockFile {
 public:
  struct Entry {
    std::string kernel, hash;
  };

  static Result<LockFile> load(const std::string &path);
  /// Writes the decided ones of `decisions`; what the file already says of others is kept.
  static Status save(const std::string &path, const std::vector<const Decision *> &decisions);

  /// What the file says of a class, or nullopt.
  std::optional<Entry> find(const Decision &decision) const;
  const std::string &path() const noexcept { return path_; }
  std::size_t size() const noexcept { return entries_.size(); }

 private:
  std::string path_;
  std::map<std::string, Entry> entries_;  ///< by `class_of`
};

}  // namespace switchyard
