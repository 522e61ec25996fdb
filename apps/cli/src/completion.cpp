// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "command_tree.hpp"

namespace switchyard::cli {
namespace {

using Commands = std::vector<CommandInfo>;

std::vector<const CLI::Option *> named_options(const CLI::App &command) {
  std::vector<const CLI::Option *> out;
  for (const CLI::Option *option : command.get_options())
    if (!option->get_positional()) out.push_back(option);
  return out;
}

std::vector<std::string> spellings(const CLI::Option &option) {
  std::vector<std::string> out;
  for (const std::string &name : option.get_snames()) out.push_back("-" + name);
  for (const std::string &name : option.get_lnames()) out.push_back("--" + name);
  return out;
}

/// The words that may follow a command's name: its members.
std::vector<std::string> members(const CLI::App &app) {
  std::vector<std::string> out;
  for (const CommandInfo &c : command_list(app))
    if (c.name.find(' ') == std::string::npos) out.push_back(c.name);
  return out;
}

/// In single quotes, for any of the shells.
std::string quoted(std::string text) {
  std::ranges::replace(text, '\'', '`');
  return "'" + text + "'";
}

std::string bash(const CLI::App &app, const Commands &commands) {
  std::string words =
      fmt::format("    '') words='{} --help --version' ;;\n", fmt::join(members(app), " "));
  for (const CommandInfo &c : commands) {
    std::vector<std::string> all = members(*c.app);
    for (const CLI::Option *option : named_options(*c.app))
      for (std::string &name : spellings(*option)) all.push_back(std::move(name));
    words += fmt::format("    '{}') words='{}' ;;\n", c.name, fmt::join(all, " "));
  }
  std::map<std::string, std::vector<std::string>> values;
  for (const CommandInfo &c : commands)
    for (const CLI::Option *option : named_options(*c.app))
      if (auto known = known_values(longest_name(*option)); !known.empty())
        values[longest_name(*option)] = std::move(known);
  std::string choices;
  for (const auto &[option, known] : values)
    choices += fmt::format("    {}) choices='{}' ;;\n", option, fmt::join(known, " "));
  std::string groups;
  for (const CommandInfo &c : commands)
    if (!members(*c.app).empty()) groups += (groups.empty() ? "" : "|") + c.name;
  return fmt::format(R"(# bash completion for switchyard; generated from its command tree
_switchyard() {{
  local command='' words='' choices='' i
  local current=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD-1]}}
  for ((i = 1; i < COMP_CWORD; ++i)); do
    [[ ${{COMP_WORDS[i]}} == -* ]] && break
    case $command in
      '') command=${{COMP_WORDS[i]}} ;;
      {1}) command="$command ${{COMP_WORDS[i]}}" ;;
    esac
  done
  case $previous in
{2}  esac
  if [[ -n $choices ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$choices" -- "$current")
    return
  fi
  case $command in
{0}  esac
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
  # Anything that is no option may be a file.
  [[ $current == -* || -z $command ]] || mapfile -t -O "${{#COMPREPLY[@]}}" COMPREPLY < <(compgen -f -- "$current")
}}
complete -o filenames -F _switchyard switchyard
)",
                     words, groups, choices);
}

/// A description for zsh's _arguments and _describe, whose colons and brackets mean something.
std::string zsh_text(const std::string &text) {
  std::string out;
  for (const char c : text) {
    if (c == ':' || c == '[' || c == ']') out += '\\';
    out += c == '\'' ? '`' : c;
  }
  return out;
}

std::string zsh_list(const CLI::App &app, const std::string &indent) {
  std::string out;
  for (const CommandInfo &c : command_list(app))
    if (c.name.find(' ') == std::string::npos)
      out += fmt::format("{}'{}:{}'\n", indent, c.name, zsh_text(c.app->get_description()));
  return out;
}

std::string zsh(const CLI::App &app, const Commands &commands) {
  std::string cases;
  for (const CommandInfo &c : commands) {
    if (!members(*c.app).empty()) {
      cases += fmt::format("    '{}')\n      list=(\n{}      )\n      _describe command list ;;\n",
                           c.name, zsh_list(*c.app, "        "));
      continue;
    }
    cases += fmt::format("    '{}')\n      _arguments -s \\\n", c.name);
    for (const CLI::Option *option : named_options(*c.app))
      for (const std::string &name : spellings(*option)) {
        std::string value;
        const auto known = known_values(longest_name(*option));
        if (!is_flag(*option))
          value = known.empty() ? fmt::format(":{}:_files", zsh_text(value_name(*option)))
                                : fmt::format(":{}:({})", zsh_text(value_name(*option)),
                                              fmt::join(known, " "));
        cases += fmt::format("        '{}[{}]{}' \\\n", name, zsh_text(option->get_description()),
                             value);
      }
    cases += "        '*:file:_files' ;;\n";
  }
  return fmt::format(R"(#compdef switchyard
# zsh completion for switchyard; generated from its command tree
_switchyard() {{
  local -a list
  local command=''
  local -i used=1
  if (( CURRENT > 2 )); then
    command=$words[2]
    used=2
    case $command in
      {2})
        if (( CURRENT > 3 )); then
          command="$command $words[3]"
          used=3
        fi ;;
    esac
  fi
  (( used > 1 )) && shift $((used - 1)) words && (( CURRENT -= used - 1 ))
  case $command in
    '')
      list=(
{0}      )
      _describe command list ;;
{1}  esac
}}
_switchyard "$@"
)",
                     zsh_list(app, "        "), cases, [&] {
                       std::string groups;
                       for (const CommandInfo &c : commands)
                         if (!members(*c.app).empty())
                           groups += (groups.empty() ? "" : "|") + c.name;
                       return groups;
                     }());
}

std::string fish(const Commands &commands) {
  std::string out = "# fish completion for switchyard; generated from its command tree\n";
  for (const CommandInfo &c : commands)
    if (c.name.find(' ') == std::string::npos)
      out += fmt::format("complete -c switchyard -n __fish_use_subcommand -f -a {} -d {}\n", c.name,
                         quoted(c.app->get_description()));
  for (const CommandInfo &c : commands) {
    const auto space = c.name.find(' ');
    const std::string group = c.name.substr(0, space);
    std::string when = fmt::format("'__fish_seen_subcommand_from {}'", group);
    if (space != std::string::npos) {
      const std::string own = c.name.substr(space + 1);
      const CommandInfo *parent = &*std::ranges::find(commands, group, &CommandInfo::name);
      out += fmt::format(
          "complete -c switchyard -n '__fish_seen_subcommand_from {}; and not "
          "__fish_seen_subcommand_from {}' -f -a {} -d {}\n",
          group, fmt::join(members(*parent->app), " "), own, quoted(c.app->get_description()));
      when = fmt::format("'__fish_seen_subcommand_from {}; and __fish_seen_subcommand_from {}'",
                         group, own);
    }
    for (const CLI::Option *option : named_options(*c.app)) {
      std::string line = fmt::format("complete -c switchyard -n {}", when);
      for (const std::string &name : option->get_snames()) line += " -s " + name;
      for (const std::string &name : option->get_lnames()) line += " -l " + name;
      if (!is_flag(*option)) {
        const auto known = known_values(longest_name(*option));
        line += known.empty() ? " -r" : fmt::format(" -x -a '{}'", fmt::join(known, " "));
      }
      out += line + " -d " + quoted(option->get_description()) + "\n";
    }
  }
  return out;
}

}  // namespace

std::string completion_script(const CLI::App &app, const std::string &shell) {
  const Commands commands = command_list(app);
  if (shell == "bash") return bash(app, commands);
  return shell == "zsh" ? zsh(app, commands) : fish(commands);
}

}  // namespace switchyard::cli
