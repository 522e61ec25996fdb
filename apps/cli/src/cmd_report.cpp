// SPDX-License-Identifier: Apache-2.0
// switchyard report FILE...: a page of what other commands measured.
#include <fmt/format.h>

#include "io/file.hpp"
#include "report/write.hpp"
#include "session.hpp"

namespace switchyard::cli {
namespace {

struct Arguments {
  std::vector<std::string> files;
  std::string out = "report.html";
  bool compare = false;
};

Outcome run(const Arguments &a, const Common &common) {
  if (auto ok = check_common(common); !ok) return tl::unexpected(ok.error());
  auto options = make_options(common);
  if (!options) return tl::unexpected(options.error());
  std::vector<report::Source> sources;
  for (const std::string &file : a.files) {
    auto source = report::read_source(file);
    if (!source) return tl::unexpected(source.error());
    sources.push_back(std::move(*source));
  }
  auto report = a.compare ? report::compare(sources)
                          : Result<report::Report>(
                                report::describe(sources, report::limits_here(options->cache_dir)));
  if (!report) return tl::unexpected(report.error());
  if (auto ok = report::write_page(a.out, *report); !ok) return tl::unexpected(ok.error());
  Json doc = report->json();
  doc["outputs"] = Json{{"page", a.out}};
  std::string text;
  for (const std::string &sentence : report->sentences) text += sentence + "\n";
  print_result(common, doc, text + fmt::format("report: {}\n", a.out));
  return 0;
}

}  // namespace

void add_report(Program &program) {
  auto a = std::make_shared<Arguments>();
  CLI::App *app = add_command(program, nullptr, "report",
                              "An HTML page of what other commands measured, for people",
                              [a, &program] { return run(*a, program.common); });
  app->add_option("FILE", a->files,
                  "Written by run --metrics, or by bench, regret, info --limits, explain or run "
                  "with --json, or by benchmarks/run.py --json")
      ->required();
  app->add_option("-o,--output", a->out, "The page; default report.html")->type_name("FILE");
  app->add_flag("--compare", a->compare, "Hold the other files against the first");
}

}  // namespace switchyard::cli
