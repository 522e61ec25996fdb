// SPDX-License-Identifier: Apache-2.0
#pragma once
/// The library's log: standard error, silent below Options::log_level ("warning" by default).

#include <string_view>
#include <switchyard/result.hpp>

namespace switchyard {

/// `level` is a sy_log_level. [any-thread]
void log(int level, std::string_view message);
/// debug | info | warning | error | off. The level is the process's: the last engine's choice
/// holds.
Status set_log_level(std::string_view level);

}  // namespace switchyard
