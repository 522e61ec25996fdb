// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Reads `.note.switchyard` from a shared object without running any of its code.

#include <cstdint>
#include <string>
#include <switchyard/result.hpp>

namespace switchyard {

struct PluginNote {
  std::uint32_t abi_major = 0, abi_minor = 0;
  std::string id;
};

/// `fd` is open for reading. Errors (code backend) say what is wrong with the file: not an ELF
/// shared object, another machine, truncated, no note, a malformed note.
Result<PluginNote> read_plugin_note(int fd, const std::string &path);

}  // namespace switchyard
