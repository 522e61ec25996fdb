// SPDX-License-Identifier: Apache-2.0
#pragma once
/// What the command line offers, as manual pages and as completion scripts: both are written from
/// the parser's own tree, so that they cannot say anything else.

#include <map>

#include "program.hpp"

namespace switchyard::cli {

/// A command with its full name, "plugin check"; the program itself is "".
struct CommandInfo {
  std::string name;
  const CLI::App *app = nullptr;
};

/// All commands, groups before their members; those of an empty group (hidden) are left out.
std::vector<CommandInfo> command_list(const CLI::App &app);

/// Options of a command by group, positionals under "". `--help` is among them.
std::map<std::string, std::vector<const CLI::Option *>> options_by_group(const CLI::App &command);

/// Does it stand alone, without a value?
bool is_flag(const CLI::Option &option);
/// "--backend", or "-k" where there is no long name.
std::string longest_name(const CLI::Option &option);
/// What its value is called, "N" or "FILE".
std::string value_name(const CLI::Option &option);
/// The values of options that take one of a few words, by the option's longest name.
std::vector<std::string> known_values(const std::string &option);

/// Manual pages in man(7): file name -> text.
std::map<std::string, std::string> manual_pages(const CLI::App &app);

/// A script for "bash", "zsh" or "fish".
std::string completion_script(const CLI::App &app, const std::string &shell);

}  // namespace switchyard::cli
