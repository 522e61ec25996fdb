// SPDX-License-Identifier: Apache-2.0
#pragma once
/// All plugins of an engine: searched for, checked, loaded; their kernels as candidates.

#include <span>
#include <switchyard/engine.hpp>

#include "registry/candidates.hpp"
#include "store/verdicts.hpp"
#include "verify/gate.hpp"
#include "worker/remote.hpp"

namespace switchyard {

class Registry {
 public:
  /// Never fails for a bad plugin (it is listed with the reason); fails when no reference was
  /// found.
  static Result<std::unique_ptr<Registry>> load(const Options &options, VerdictStore &verdicts,
                                                std::uint32_t threads);

  std::span<const Candidate *const> candidates(OpIndex op) const noexcept { return by_op_[op]; }
  std::span<const std::unique_ptr<Candidate>> all() const noexcept { return all_; }
  const Reference &reference() const noexcept { return reference_; }
  const std::string &reference_path() const noexcept { return reference_path_; }
  const std::string &reference_hash() const noexcept { return reference_hash_; }
  const std::vector<PluginInfo> &plugins() const noexcept { return plugins_; }
  const std::vector<std::string> &search_log() const noexcept { return log_; }

 private:
  struct Place {
    std::string directory;
    bool builtin;  ///< beside the library or in the install prefix
  };
  void scan(const Place &place, const Options &options, VerdictStore &verdicts,
            const sy_host *host);
  Status load_file(const std::string &path, bool builtin, const Options &options,
                   VerdictStore &verdicts, const sy_host *host, PluginInfo &info);
  Status add_remote(const PluginFile &file, remote::RemotePlugin plugin, PluginInfo &info);
  void add_candidates(const MappedPlugin &plugin, const std::vector<DeviceInstance> &instances,
                      bool reference, PluginInfo &info);

  std::vector<std::unique_ptr<Candidate>> all_;
  std::vector<std::vector<const Candidate *>> by_op_;
  Reference reference_;
  std::string reference_path_, reference_hash_;
  std::vector<PluginInfo> plugins_;
  std::vector<std::string> log_;
};

}  // namespace switchyard
