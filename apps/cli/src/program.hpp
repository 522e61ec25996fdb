// SPDX-License-Identifier: Apache-2.0
#pragma once
/// The frame that all commands share: common options, where results go, exit codes.

#include <CLI/CLI.hpp>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <switchyard/engine.hpp>

namespace switchyard::cli {

using Json = nlohmann::ordered_json;

/// Options that every command takes.
struct Common {
  std::string backend;          ///< pin; never falls back to another choice
  std::string require_backend;  ///< the same, and forbids run-time fallback
  std::string policy, preset, isa, dtype;
  int threads = 0;  ///< 0 = all that are allowed
  std::optional<std::uint64_t> seed;
  bool json = false;
  int verbose = 0;
};

/// What a command returns: an exit code (0, 5 or 6), or an error.
using Outcome = Result<int>;

struct Program {
  CLI::App app{"Routes compute calls to the backend measured fastest and verified right."};
  Common common;
  std::function<Outcome()> action;  ///< of the command on the command line
};

/// Adds a command under `parent` (null = the program) with the common options.
CLI::App *add_command(Program &program, CLI::App *parent, const std::string &name,
                      const std::string &description, std::function<Outcome()> run);

// One per file cmd_*.cpp.
void add_info(Program &program);
void add_doctor(Program &program);
void add_run(Program &program);
void add_quantize(Program &program);
void add_dequantize(Program &program);
void add_kmeans(Program &program);
void add_attention(Program &program);
void add_explain(Program &program);
void add_bench(Program &program);
void add_plugin(Program &program);
void add_metrics(Program &program);
void add_tune(Program &program);
void add_regret(Program &program);
void add_report(Program &program);
void add_completion(Program &program);

/// 0 ok; 1 run time; 2 usage; 3 configuration; 4 backend; 5 verification; 6 regression;
/// 130 interrupted.
int exit_code(ErrorCode code) noexcept;

/// Prints an error: text on stderr, or with --json one document on stdout.
void print_error(const Error &error, bool json);

/// Prints the result of a command on stdout: one JSON document, or the text.
void print_result(const Common &common, const Json &document, const std::string &text);

}  // namespace switchyard::cli
