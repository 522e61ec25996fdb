// SPDX-License-Identifier: Apache-2.0
#include "program.hpp"

#include <cstdio>

namespace switchyard::cli {
namespace {

void add_common(CLI::App &app, Common &c) {
  const char *group = "Common options";
  app.add_option("--backend", c.backend,
                 "Use this backend only; never falls back to another choice")
      ->type_name("NAME")
      ->group(group);
  app.add_option("--require-backend", c.require_backend,
                 "Like --backend, and an error of it at run time is final too")
      ->type_name("NAME")
      ->group(group);
  app.add_option("--policy", c.policy, "adaptive, benchmark, thresholds, fixed or frozen")
      ->type_name("P")
      ->group(group);
  app.add_option("--preset", c.preset, "A named set of options, such as production-cpu")
      ->type_name("P")
      ->group(group);
  app.add_option("--threads", c.threads, "Thread budget; default: all that this process may use")
      ->type_name("N")
      ->check(CLI::Range(1, 65536))
      ->group(group);
  app.add_option("--seed", c.seed, "Seed of everything random; default 0")
      ->type_name("N")
      ->group(group);
  app.add_option("--dtype", c.dtype, "Cast floating inputs on load: f32, f16 or bf16")
      ->type_name("T")
      ->group(group);
  app.add_option("--isa", c.isa, "Highest instruction set: avx2, avx512, avx512_bf16 or amx")
      ->type_name("I")
      ->group(group);
  app.add_flag("--json", c.json, "One JSON document on stdout")->group(group);
  app.add_flag("-v,--verbose", c.verbose, "Log to stderr; twice for details")->group(group);
}

}  // namespace

CLI::App *add_command(Program &program, CLI::App *parent, const std::string &name,
                      const std::string &description, std::function<Outcome()> run) {
  CLI::App *command = (parent ? *parent : program.app).add_subcommand(name, description);
  if (!run) return command;  // a group of commands
  add_common(*command, program.common);
  command->callback([&program, run = std::move(run)] { program.action = run; });
  return command;
}

int exit_code(ErrorCode code) noexcept {
  switch (code) {
    case ErrorCode::usage:
    case ErrorCode::invalid_argument:
      return 2;
    case ErrorCode::config:
      return 3;
    case ErrorCode::backend:
    case ErrorCode::unsupported:
      return 4;
    case ErrorCode::verification:
      return 5;
    case ErrorCode::regression:
      return 6;
    case ErrorCode::cancelled:
      return 130;
    case ErrorCode::shape:
    case ErrorCode::dtype:
    case ErrorCode::nonfinite:
    case ErrorCode::overflow:
    case ErrorCode::out_of_memory:
    case ErrorCode::io:
    case ErrorCode::internal:
      return 1;
  }
  return 1;
}

void print_error(const Error &error, bool json) {
  if (json) {
    Json fields;
    fields["code"] = std::string(to_string(error.code));
    fields["message"] = error.message;
    fields["file"] = error.file.empty() ? Json(nullptr) : Json(error.file);
    fields["line"] = error.line > 0 ? Json(error.line) : Json(nullptr);
    fields["column"] = error.column > 0 ? Json(error.column) : Json(nullptr);
    if (error.index >= 0) fields["index"] = error.index;
    const std::string text =
        Json{{"error", fields}}.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::fflush(stdout);
    return;
  }
  std::string text = error.text();
  if (error.file.empty()) text = "switchyard: " + text;
  if (text.empty() || text.back() != '\n') text += '\n';
  std::fwrite(text.data(), 1, text.size(), stderr);
}

void print_result(const Common &common, const Json &document, const std::string &text) {
  std::string out =
      common.json ? document.dump(2, ' ', false, Json::error_handler_t::replace) : text;
  if (out.empty() || out.back() != '\n') out += '\n';
  std::fwrite(out.data(), 1, out.size(), stdout);
  std::fflush(stdout);
}

}  // namespace switchyard::cli
