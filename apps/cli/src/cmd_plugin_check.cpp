// SPDX-License-Identifier: Apache-2.0
// switchyard plugin check FILE.so: the conformance kit; re-admits a quarantined file that passes.
#include "cancel.hpp"
#include "check/check.hpp"
#include "facade/engine_impl.hpp"
#include "plugin_author.hpp"
#include "session.hpp"

namespace switchyard::cli {
namespace {

Json report_json(const check::Report &r) {
  Json doc = document("plugin check");
  doc["file"] = r.path;
  doc["id"] = r.id;
  doc["version"] = r.version;
  doc["content_hash"] = r.content_hash;
  doc["kernels"] = r.kernels;
  doc["passed"] = r.passed();
  doc["readmitted"] = r.readmitted;
  doc["checks"] = Json::array();
  for (const check::Item &i : r.items) {
    std::string state(check::to_string(i.state));
    if (i.state == check::State::fail) state = "fail";
    doc["checks"].push_back({{"section", i.section},
                             {"name", i.name},
                             {"kernel", i.kernel.empty() ? Json(nullptr) : Json(i.kernel)},
                             {"state", state},
                             {"detail", i.detail.empty() ? Json(nullptr) : Json(i.detail)}});
  }
  doc["speed"] = Json::array();
  for (const check::Speed &s : r.speed)
    doc["speed"].push_back({{"kernel", s.kernel},
                            {"shape", s.shape},
                            {"time_ms", s.ms},
                            {"reference_ms", s.reference_ms},
                            {"times_faster", s.reference_ms / s.ms}});
  return doc;
}

Outcome run(const std::string &file, const Common &common) {
  if (auto ok = check_common(common); !ok) return tl::unexpected(ok.error());
  auto engine = make_engine(common);
  if (!engine) return tl::unexpected(engine.error());
  EndAtOnce scope;
  const Engine::Impl &parts = engine->impl();
  auto report = check::check_plugin(file, {parts.registry->reference_path(), common.isa});
  if (!report) return tl::unexpected(report.error());
  if (report->passed()) {
    const auto probe = parts.store->find(report->content_hash, VerdictStore::kProbe);
    report->readmitted =
        (probe && !probe->empty()) || !parts.store->quarantined(report->content_hash).empty();
    parts.store->readmit(report->content_hash);
  }
  print_result(common, report_json(*report), report->text());
  return report->passed() ? 0 : exit_code(ErrorCode::verification);
}

}  // namespace

void add_plugin_check(Program &program, CLI::App *group) {
  auto file = std::make_shared<std::string>();
  CLI::App *app =
      add_command(program, group, "check", "Try a plugin file against every rule of the ABI",
                  [file, &program] { return run(*file, program.common); });
  app->add_option("FILE", *file, "The plugin's shared object")->required();
}

}  // namespace switchyard::cli
