// SPDX-License-Identifier: Apache-2.0
// switchyard completion SHELL, and (hidden, for the build) switchyard man DIRECTORY.
#include <fmt/format.h>

#include <array>

#include "command_tree.hpp"
#include "io/file.hpp"
#include "session.hpp"

namespace switchyard::cli {
namespace {

Outcome completion(const std::string &shell, const Program &program) {
  constexpr std::array<std::string_view, 3> shells{"bash", "zsh", "fish"};
  if (auto ok = check_choice("shell", shell, shells); !ok) return tl::unexpected(ok.error());
  const std::string script = completion_script(program.app, shell);
  Json doc = document("completion");
  doc["shell"] = shell;
  doc["script"] = script;
  print_result(program.common, doc, script);
  return 0;
}

Outcome man(const std::string &directory, const Program &program) {
  Json doc = document("man");
  doc["files"] = Json::array();
  for (const auto &[name, text] : manual_pages(program.app)) {
    const std::string path = directory + "/" + name;
    if (auto ok = write_file(path, text); !ok) return tl::unexpected(ok.error());
    doc["files"].push_back(path);
  }
  print_result(program.common, doc, fmt::format("{} pages\n", doc["files"].size()));
  return 0;
}

}  // namespace

void add_completion(Program &program) {
  auto shell = std::make_shared<std::string>();
  add_command(program, nullptr, "completion", "A completion script for a shell",
              [shell, &program] { return completion(*shell, program); })
      ->add_option("SHELL", *shell, "bash, zsh or fish")
      ->required();
  auto directory = std::make_shared<std::string>();
  CLI::App *hidden = add_command(program, nullptr, "man", "Write the manual pages",
                                 [directory, &program] { return man(*directory, program); });
  hidden->add_option("DIRECTORY", *directory, "An existing directory")->required();
  hidden->group("");
}

}  // namespace switchyard::cli
