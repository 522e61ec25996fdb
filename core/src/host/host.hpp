// SPDX-License-Identifier: Apache-2.0
#pragma once
/// The sy_host that plugins see: one per process and set of settings, never freed, because plugins
/// stay mapped for the process's life.

#include <map>
#include <string>

#include <switchyard/plugin.h>

namespace switchyard {

/// Settings handed out by sy_host::get_setting. Equal settings give the same host.
const sy_host *make_host(const std::map<std::string, std::string> &settings);

/// Monotonic nanoseconds.
std::uint64_t now_ns() noexcept;

/// Asks the operating system for AMX tile data once; SY_OK when granted.
/// [any-thread]
std::int32_t request_amx() noexcept;
/// Why it was not, in words; "" when granted. [any-thread]
std::string amx_refusal();

}  // namespace switchyard
