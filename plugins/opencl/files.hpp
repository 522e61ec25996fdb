// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Files that outlive the process: descriptions of devices, compiled programs. Each ends with a
/// checksum; one that does not fit counts as missing.

#include <switchyard/plugin.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace switchyard::opencl {

/// FNV-1a.
std::uint64_t hash_of(std::string_view text, std::uint64_t seed = 0xcbf29ce484222325u) noexcept;
std::string hex(std::uint64_t value);

/// Where this plugin keeps files: the host's "cache_dir"/opencl, else
/// $XDG_CACHE_HOME/switchyard/opencl or ~/.cache/switchyard/opencl; "" if nowhere. Made when
/// missing. A folder that others may write to is not used: compiled programs are code.
std::string cache_folder(const sy_host *host);

std::optional<std::string> read_file(const std::string &path);
/// A file of write_sealed, without its checksum.
std::optional<std::string> read_sealed(const std::string &path);
/// Replaces the file at once; failures are silent, for the next process just does the work again.
void write_sealed(const std::string &path, std::string_view data);

}  // namespace switchyard::opencl
