// SPDX-License-Identifier: Apache-2.0
// switchyard run CONFIG.yaml: runs the jobs of a file.
#include <fmt/format.h>

#include "arrays.hpp"
#include "facade/recommend.hpp"
#include "io/file.hpp"
#include "jobs.hpp"
#include "machine_report.hpp"
#include "report/write.hpp"
#include "session.hpp"
#include "text.hpp"

namespace switchyard::cli {
namespace {

struct Arguments {
  std::string config, metrics, report;
  std::vector<std::string> set;
};

std::string job_text(const JobReport &job) {
  std::string text = fmt::format("{} ({} {} {})\n  {}\n", job.name, job.op, job.dtype,
                                 job.shape.dump(), run_info_text(job.info));
  if (!job.why.empty()) text += fmt::format("  why: {}\n", job.why);
  for (const Comparison &c : job.compared) text += fmt::format("  {}\n", c.text());
  for (const std::string &line : job.details) text += fmt::format("  {}\n", line);
  for (const auto &[slot, path] : job.outputs.items())
    text += fmt::format("  {}: {}\n", slot, path.get<std::string>());
  return text + '\n';
}

/// The engine's counters, and under "run" what only this command knows: enough for a report.
Json metrics_document(const Engine &engine, const std::vector<JobReport> &jobs) {
  Json doc = Json::parse(engine.metrics().json());
  for (const Explanation &e : engine.decisions()) doc["decisions"].push_back(Json::parse(e.json()));
  Json &run = doc["run"];
  run["version"] = std::string(version());
  run["threads"] = engine.threads();
  run["machine"] = machine_json(read_machine());
  if (const Json limits = report::limits_here(engine.options().cache_dir); limits.is_object())
    run.update(limits);
  run["jobs"] = Json::array();
  for (const JobReport &job : jobs) run["jobs"].push_back(job.json());
  run["recommendations"] = Json::array();
  for (const Recommendation &r : engine.recommend()) run["recommendations"].push_back(to_json(r));
  return doc;
}

std::string summary(const std::vector<JobReport> &jobs) {
  Table table({"job", "backend", "time", "times faster", "than", "right?"}, "llrrll");
  for (const JobReport &job : jobs) {
    const std::string gate = job.info.backend == "reference" ? "the reference"
                             : job.info.verified == "no"     ? "NOT verified"
                                                             : "verified";
    if (job.compared.empty())
      table.add({job.name, job.info.backend, duration(job.info.time_ms), "-", "-", gate});
    for (std::size_t i = 0; i < job.compared.size(); ++i) {
      const Comparison &c = job.compared[i];
      const bool first = i == 0;
      table.add({first ? job.name : "", first ? job.info.backend : "",
                 first ? duration(job.info.time_ms) : "", times_faster(c.factor()), c.backend,
                 c.equal ? gate + ", same result" : "DIFFERENT"});
    }
  }
  return table.text();
}

Outcome run(const Arguments &a, const Common &common) {
  if (auto ok = check_common(common); !ok) return tl::unexpected(ok.error());
  std::vector<std::string> overrides = a.set;
  if (!common.preset.empty()) overrides.push_back("engine.preset=" + common.preset);
  auto config = load_run_config(a.config, overrides);
  if (!config) return tl::unexpected(config.error());
  if (auto ok = check_jobs(*config); !ok) return tl::unexpected(ok.error());
  if (auto ok = check_output(a.report, {".html", ".htm"}); !ok) return tl::unexpected(ok.error());
  auto engine = make_engine(common, config->engine);
  if (!engine) return tl::unexpected(engine.error());

  Rivals rivals(engine->options(), *engine);
  std::vector<JobReport> reports;
  bool right = true;
  for (Job &job : config->jobs) {
    if (!common.dtype.empty()) job.dtype = common.dtype;
    if (common.seed) job.kmeans.seed = job.quantize.seed = *common.seed;
    auto report = run_job(*engine, rivals, job);
    if (!report) return tl::unexpected(report.error());
    right = right && report->right();
    reports.push_back(std::move(*report));
  }
  if (!a.metrics.empty() || !a.report.empty()) {
    Json metrics = metrics_document(*engine, reports);
    if (!a.metrics.empty())
      if (auto ok = write_file(a.metrics, metrics.dump(2) + "\n"); !ok)
        return tl::unexpected(ok.error());
    if (!a.report.empty()) {
      auto source = report::make_source(a.config, std::move(metrics));
      if (!source) return tl::unexpected(source.error());
      if (auto ok = report::write_page(a.report, report::describe({std::move(*source)}, nullptr));
          !ok)
        return tl::unexpected(ok.error());
    }
  }

  Json doc = document("run");
  doc["config"] = a.config;
  doc["right"] = right;
  doc["jobs"] = Json::array();
  std::string text = summary(reports) + '\n';
  for (const JobReport &report : reports) {
    doc["jobs"].push_back(report.json());
    text += job_text(report);
  }
  if (!a.metrics.empty()) text += fmt::format("metrics: {}\n", a.metrics);
  if (!a.report.empty()) text += fmt::format("report: {}\n", a.report);
  print_result(common, doc, text);
  return right ? 0 : exit_code(ErrorCode::verification);
}

}  // namespace

void add_run(Program &program) {
  auto a = std::make_shared<Arguments>();
  CLI::App *app = add_command(program, nullptr, "run", "Run the jobs of a YAML file",
                              [a, &program] { return run(*a, program.common); });
  app->add_option("CONFIG", a->config, "Run file (.yaml)")->required();
  app->add_option("--set", a->set, "Override one value, such as jobs.0.k=32; may be repeated")
      ->type_name("KEY=VALUE")
      ->expected(1)
      ->take_all();
  app->add_option("--metrics", a->metrics,
                  "Write counters, times, jobs and decisions as JSON, for `metrics` and `report`")
      ->type_name("FILE");
  app->add_option("--report", a->report, "Write an HTML page of the run")->type_name("FILE.html");
}

}  // namespace switchyard::cli
