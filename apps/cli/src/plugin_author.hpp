// SPDX-License-Identifier: Apache-2.0
#pragma once
/// What `switchyard plugin` offers to people who write plugins.

#include "program.hpp"

namespace switchyard::cli {

void add_plugin_check(Program &program, CLI::App *group);
void add_plugin_new(Program &program, CLI::App *group);

}  // namespace switchyard::cli
