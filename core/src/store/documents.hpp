// SPDX-License-Identifier: Apache-2.0
#pragma once
/// What outlives a process: a directory of small JSON documents, each a map of entries with a
/// checksum. A reader finds an old document or a new one, never a mix; writers of several processes
/// merge under a lock, so that no entry is lost; a document that cannot be trusted is moved aside
/// and counts as empty, with the reason kept. Nothing here fails a caller: a disk that refuses
/// costs one warning.

#include <mutex>
#include <nlohmann/json.hpp>
#include <string>

namespace switchyard {

class DocumentStore {
 public:
  /// `directory` empty = nothing is kept. `what` names the content in warnings ("verdicts").
  DocumentStore(std::string directory, std::string what);

  const std::string &directory() const noexcept { return directory_; }
  std::string path(const std::string &name) const { return directory_ + "/" + name + ".json"; }

  /// The entries of a document (an object), empty when there is none or it is damaged. [any-thread]
  nlohmann::json read(const std::string &name);
  /// Adds `entries` to the document, replacing equal names; a null value removes. `about` describes
  /// the document to people. Returns the merged entries. [any-thread]
  nlohmann::json merge(const std::string &name, const nlohmann::json &entries,
                       const nlohmann::json &about = {});
  /// Why documents were not used, in words: "" = all is well. [any-thread]
  std::string trouble() const;

 private:
  nlohmann::json load(const std::string &name);
  void note(const std::string &why);

  const std::string directory_, what_;
  mutable std::mutex mutex_;
  std::string trouble_;
  bool warned_ = false;
};

}  // namespace switchyard
