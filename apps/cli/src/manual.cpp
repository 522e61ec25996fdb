// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>

#include "command_tree.hpp"

namespace switchyard::cli {
namespace {

constexpr const char *kExit =
    ".SH EXIT STATUS\n"
    ".TP\n0\ndone\n"
    ".TP\n1\na missing or corrupt file, a wrong shape or dtype, NaN, any other failure at run "
    "time\n"
    ".TP\n2\nan unknown command, option, format or operation, or a bad value\n"
    ".TP\n3\nan error in a YAML file\n"
    ".TP\n4\na backend that is unknown, refused, or does not offer the operation\n"
    ".TP\n5\na result that differs from the reference\n"
    ".TP\n6\na regression was found\n"
    ".TP\n130\ninterrupted\n";
constexpr const char *kEnvironment =
    ".SH ENVIRONMENT\n"
    ".TP\n.B SWITCHYARD_BACKEND\npins every operation to a backend\n"
    ".TP\n.B SWITCHYARD_ISA\nthe highest instruction set: avx2, avx512, avx512_bf16 or amx\n"
    ".TP\n.B SWITCHYARD_CACHE_DIR\nwhere verdicts, timings and limits are kept; empty: nowhere\n"
    ".TP\n.B SWITCHYARD_LOG\nlog level\n"
    ".TP\n.B SWITCHYARD_PLUGIN_PATH\ndirectories of plugins, searched first\n";

/// Text that roff takes for nothing but text.
std::string plain(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '\\')
      out += "\\e";
    else if (c == '-')
      out += "\\-";
    else
      out += c;
  }
  if (out.starts_with('.') || out.starts_with('\'')) out.insert(0, "\\&");
  return out;
}

std::string page_name(const std::string &command) {
  std::string out = "switchyard";
  if (!command.empty()) out += "-" + command;
  std::ranges::replace(out, ' ', '-');
  return out;
}

std::string upper(std::string text) {
  for (char &c : text) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return text;
}

std::string head(const std::string &name, const std::string &about) {
  return fmt::format(".TH {} 1 \"\" \"Switchyard {}\" \"User Commands\"\n.SH NAME\n{} \\- {}\n",
                     plain(upper(name)), version(), plain(name), plain(about));
}

std::string names_of(const CLI::Option &option) {
  std::string out;
  const auto add = [&](const std::string &name) {
    out += (out.empty() ? "\\fB" : ", \\fB") + plain(name) + "\\fR";
  };
  for (const std::string &name : option.get_snames()) add("-" + name);
  for (const std::string &name : option.get_lnames()) add("--" + name);
  if (!is_flag(option)) out += " \\fI" + plain(value_name(option)) + "\\fR";
  return out;
}

std::string synopsis(const CommandInfo &command) {
  std::string out = fmt::format(".SH SYNOPSIS\n.B switchyard {}\n", plain(command.name));
  const bool group = !command.app->get_subcommands([](const CLI::App *) { return true; }).empty();
  if (group) return out + ".I COMMAND\n";
  for (const CLI::Option *option : command.app->get_options()) {
    if (!option->get_positional()) continue;
    const std::string name = plain(option->get_name(true));
    const bool many = option->get_items_expected_max() > 1;
    const char *dots = many ? "..." : "";
    out += option->get_required() ? fmt::format(".I {}{}\n", name, dots)
                                  : fmt::format("[\\fI{}\\fR{}]\n", name, dots);
  }
  return out + "[\\fIOPTIONS\\fR]\n";
}

std::string command_page(const CommandInfo &command) {
  std::string out = head(page_name(command.name), command.app->get_description());
  out += synopsis(command);
  out += ".SH DESCRIPTION\n" + plain(command.app->get_description()) + ".\n";
  const auto groups = options_by_group(*command.app);
  if (const auto at = groups.find(""); at != groups.end()) {
    out += ".SH ARGUMENTS\n";
    for (const CLI::Option *option : at->second)
      out += fmt::format(".TP\n.I {}\n{}\n", plain(option->get_name(true)),
                         plain(option->get_description()));
  }
  for (const auto &[group, options] : groups) {
    if (group.empty()) continue;
    out += fmt::format(".SH {}\n", plain(upper(group)));
    for (const CLI::Option *option : options)
      out += fmt::format(".TP\n{}\n{}\n", names_of(*option), plain(option->get_description()));
  }
  const auto subs = command_list(*command.app);
  if (!subs.empty()) out += ".SH COMMANDS\n";
  for (const CommandInfo &sub : subs)
    out += fmt::format(".TP\n.B {} {}\n{}\n", plain(command.name), plain(sub.name),
                       plain(sub.app->get_description()));
  out += kExit;
  return out + ".SH SEE ALSO\n.BR switchyard (1)\n";
}

std::string main_page(const CLI::App &app, const std::vector<CommandInfo> &commands) {
  std::string out = head("switchyard", app.get_description());
  out += ".SH SYNOPSIS\n.B switchyard\n.I COMMAND\n[\\fIARGUMENTS\\fR] [\\fIOPTIONS\\fR]\n";
  out += ".SH DESCRIPTION\n" + plain(app.get_description()) +
         "\nResults go to standard output, logs and progress to standard error.\n";
  out += ".SH COMMANDS\n";
  for (const CommandInfo &c : commands)
    out += fmt::format(".TP\n.B {}\n{}\n", plain(c.name), plain(c.app->get_description()));
  out += kExit;
  out += kEnvironment;
  out += ".SH SEE ALSO\n";
  for (std::size_t i = 0; i < commands.size(); ++i)
    out += fmt::format(".BR {} (1){}\n", plain(page_name(commands[i].name)),
                       i + 1 < commands.size() ? "," : "");
  return out;
}

}  // namespace

std::map<std::string, std::string> manual_pages(const CLI::App &app) {
  const auto commands = command_list(app);
  std::map<std::string, std::string> out{{"switchyard.1", main_page(app, commands)}};
  for (const CommandInfo &c : commands) out[page_name(c.name) + ".1"] = command_page(c);
  return out;
}

}  // namespace switchyard::cli
