// SPDX-License-Identifier: Apache-2.0
#include "command_tree.hpp"

#include "config/options.hpp"

namespace switchyard::cli {
namespace {

void collect(const CLI::App &app, const std::string &prefix, std::vector<CommandInfo> &out) {
  for (const CLI::App *sub : app.get_subcommands([](const CLI::App *) { return true; })) {
    if (sub->get_group().empty()) continue;
    const std::string name = prefix + sub->get_name();
    out.push_back({name, sub});
    collect(*sub, name + " ", out);
  }
}

}  // namespace

std::vector<CommandInfo> command_list(const CLI::App &app) {
  std::vector<CommandInfo> out;
  collect(app, "", out);
  return out;
}

std::map<std::string, std::vector<const CLI::Option *>> options_by_group(const CLI::App &command) {
  std::map<std::string, std::vector<const CLI::Option *>> out;
  for (const CLI::Option *option : command.get_options())
    out[option->get_positional() ? "" : option->get_group()].push_back(option);
  return out;
}

bool is_flag(const CLI::Option &option) { return option.get_items_expected_max() == 0; }

std::string longest_name(const CLI::Option &option) {
  if (!option.get_lnames().empty()) return "--" + option.get_lnames().front();
  if (!option.get_snames().empty()) return "-" + option.get_snames().front();
  return option.get_name(true);
}

std::string value_name(const CLI::Option &option) {
  const std::string name = option.get_type_name();
  return name.substr(0, name.find(':'));  // without the range that is checked
}

std::vector<std::string> known_values(const std::string &option) {
  if (option == "--policy") return {"adaptive", "benchmark", "thresholds", "fixed", "frozen"};
  if (option == "--dtype") return {"f32", "f16", "bf16"};
  if (option == "--isa") return {"avx2", "avx512", "avx512_bf16", "amx"};
  if (option == "--granularity") return {"tensor", "row", "group", "channel"};
  if (option == "--rounding") return {"nearest", "stochastic"};
  if (option == "--nonfinite") return {"error", "saturate"};
  if (option == "--init") return {"k-means++", "k-means||", "random"};
  if (option == "--preset") {
    std::vector<std::string> out;
    for (const std::string_view name : preset_names()) out.emplace_back(name);
    return out;
  }
  return {};
}

}  // namespace switchyard::cli
