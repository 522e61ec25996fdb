// SPDX-License-Identifier: Apache-2.0
// The program `switchyard`: parses the command line, runs one command, turns errors into exit
// codes.
#include <fmt/format.h>

#include <exception>
#include <string>
#include <vector>

#include "base/suggest.hpp"
#include "cancel.hpp"
#include "program.hpp"

namespace switchyard::cli {
namespace {

Error usage_error(std::string message) {
  return Error{ErrorCode::usage, std::move(message), {}, 0, 0, -1, {}};
}

/// The command that the words name, as deep as they name one.
const CLI::App *named_command(const CLI::App &app, const std::vector<std::string> &words) {
  const CLI::App *at = &app;
  for (const std::string &word : words) {
    const CLI::App *next = nullptr;
    for (const CLI::App *sub : at->get_subcommands([](const CLI::App *) { return true; }))
      if (sub->check_name(word)) next = sub;
    if (next == nullptr) break;
    at = next;
  }
  return at;
}

/// An error if the first word is not a command, or the second not one of that group.
std::optional<Error> check_command(const CLI::App &app, const std::vector<std::string> &words) {
  const CLI::App *at = &app;
  for (std::size_t i = 0;; ++i) {
    std::vector<std::string> names;
    for (const CLI::App *sub : at->get_subcommands([](const CLI::App *) { return true; }))
      if (!sub->get_group().empty()) names.push_back(sub->get_name());
    if (names.empty()) return std::nullopt;
    const std::vector<std::string_view> known(names.begin(), names.end());
    const std::string group = at == &app ? "" : at->get_name() + " ";
    if (i >= words.size() || words[i].starts_with("-")) {
      if (i < words.size() && (words[i] == "-h" || words[i] == "--help" || words[i] == "--version"))
        return std::nullopt;
      return usage_error(
          fmt::format("'switchyard {}' needs a command first: {}", group, fmt::join(known, ", ")));
    }
    const CLI::App *next = named_command(*at, {words[i]});
    if (next == at)
      return usage_error(fmt::format("unknown command '{}{}'{}; known: {}", group, words[i],
                                     did_you_mean(words[i], known), fmt::join(known, ", ")));
    at = next;
  }
}

/// An unknown option, with the nearest known one; or the parser's own words.
Error describe(const CLI::ParseError &error, const CLI::App &command) {
  std::string message = error.what();
  const auto *extras = dynamic_cast<const CLI::ExtrasError *>(&error);
  if (extras != nullptr) {
    const auto rest = command.remaining();
    const std::string word = rest.empty() ? "" : rest.front();
    if (word.starts_with("-")) {
      std::vector<std::string> names;
      for (const CLI::Option *option : command.get_options())
        for (const std::string &name : option->get_lnames()) names.push_back("--" + name);
      const std::vector<std::string_view> known(names.begin(), names.end());
      const std::string bare = word.substr(0, word.find('='));
      message = fmt::format("unknown option '{}'{}", bare, did_you_mean(bare, known));
    } else {
      message = fmt::format("unexpected argument '{}'", word);
    }
  }
  return usage_error(fmt::format("{} (see 'switchyard {} --help')", message, command.get_name()));
}

int finish(Error error, bool json) {
  clear_status();
  const std::string element = std::to_string(error.index);
  if (error.index >= 0 && error.message.find(element) == std::string::npos)
    error.message += fmt::format(" (the first is element {})", element);
  if (error.code == ErrorCode::cancelled && !error.message.starts_with("interrupted"))
    error.message = "interrupted: " + error.message;
  print_error(error, json);
  return exit_code(error.code);
}

int run(int argc, char **argv) {
  std::vector<std::string> words(argv + 1, argv + argc);
  bool json = false;
  for (const std::string &word : words) {
    if (word == "--") break;
    if (word == "--json") json = true;
  }
  install_cancel_handler(json);

  Program program;
  CLI::App &app = program.app;
  app.name("switchyard");
  app.set_version_flag("--version", std::string(version()));
  app.require_subcommand(1);
  add_info(program);
  add_doctor(program);
  add_run(program);
  add_quantize(program);
  add_dequantize(program);
  add_kmeans(program);
  add_attention(program);
  add_explain(program);
  add_bench(program);
  add_plugin(program);
  add_metrics(program);
  add_tune(program);
  add_regret(program);
  add_report(program);
  add_completion(program);

  if (auto error = check_command(app, words)) return finish(*error, json);
  try {
    std::vector<std::string> reversed(words.rbegin(), words.rend());
    app.parse(std::move(reversed));
  } catch (const CLI::CallForHelp &) {
    fmt::print("{}", named_command(app, words)->help("", CLI::AppFormatMode::Normal));
    return 0;
  } catch (const CLI::Success &done) {
    return app.exit(done);
  } catch (const CLI::ParseError &error) {
    return finish(describe(error, *named_command(app, words)), json);
  }
  Outcome outcome = program.action();
  if (!outcome) return finish(outcome.error(), program.common.json);
  return *outcome;
}

}  // namespace
}  // namespace switchyard::cli

int main(int argc, char **argv) {
  try {
    return switchyard::cli::run(argc, argv);
  } catch (const std::bad_alloc &) {
    fmt::print(stderr, "switchyard: out of memory\n");
  } catch (const std::exception &error) {
    fmt::print(stderr, "switchyard: internal error: {}\n", error.what());
  }
  return 1;
}
