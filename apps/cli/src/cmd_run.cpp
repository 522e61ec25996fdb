// SPDX-License-Identifier: Apache-2.0
// switchyard run CONFIG.yaml: runs the jobs of a file.
#include <fmt/format.h>

#include "io/file.hpp"
#include "jobs.hpp"
#include "session.hpp"
#include "text.hpp"

namespace switchyard::cli {
namespace {

struct Arguments {
  std::string config, metrics;
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
  if (!a.metrics.empty()) {
    Json metrics = Json::parse(engine->metrics().json());
    for (const Explanation &e : engine->decisions())
      metrics["decisions"].push_back(Json::parse(e.json()));
    if (auto ok = write_file(a.metrics, metrics.dump(2) + "\n"); !ok)
      return tl::unexpected(ok.error());
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
  app->add_option("--metrics", a->metrics, "Write the engine's counters and times as JSON")
      ->type_name("FILE");
}

}  // namespace switchyard::cli
