// SPDX-License-Identifier: Apache-2.0
#pragma once
/// A plugin file that passed every check that needs none of its code: who owns it, who may write
/// it, that it is a plugin for this machine and this ABI; and its content's hash.

#include <sys/types.h>

#include <string>

#include "loader/elf_note.hpp"

namespace switchyard {

struct PluginFile {
  std::string path;  ///< canonical
  std::string hash;  ///< of the content: identifies the plugin in stored verdicts and timings
  PluginNote note;
  dev_t device = 0;
  ino_t inode = 0;
};

/// Errors (code backend) name the path, the rule it breaks and what to do.
Result<PluginFile> check_plugin_file(const std::string &path);

/// Whether `path` still is the checked file (same device and inode).
bool still_same(const PluginFile &file) noexcept;

}  // namespace switchyard
