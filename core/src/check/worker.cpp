// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <array>
#include <nlohmann/json.hpp>

#include "check/section.hpp"
#include "host/host.hpp"
#include "verify/guard_pages.hpp"
#include "worker/protocol.hpp"

namespace switchyard::check {
namespace {

Result<std::vector<std::unique_ptr<Candidate>>> load(const std::string &path, const sy_host *host,
                                                     MappedPlugin &plugin) {
  auto file = check_plugin_file(path);
  if (!file) return tl::unexpected(file.error());
  auto mapped = map_plugin(*file);
  if (!mapped) return tl::unexpected(mapped.error());
  plugin = *mapped;
  auto instances = make_instances(plugin, host);
  if (!instances) return tl::unexpected(instances.error());
  return make_candidates(plugin, *instances);
}

}  // namespace

std::string encode(const SectionRequest &r) {
  return nlohmann::json{
      {"plugin", r.plugin}, {"reference", r.reference}, {"isa", r.isa}, {"section", r.section}}
      .dump();
}

Result<SectionRequest> decode_section(const std::string &text) {
  const auto json = nlohmann::json::parse(text, nullptr, false);
  if (!json.is_object()) return fail(ErrorCode::usage, "the request is not a JSON object");
  return SectionRequest{json.value("plugin", ""), json.value("reference", ""),
                        json.value("isa", ""), json.value("section", "")};
}

int worker_check(const SectionRequest &request, int out_fd) {
  report_guard_faults(out_fd);
  std::map<std::string, std::string> settings{{"threads", "8"}};
  if (!request.isa.empty()) settings["isa"] = request.isa;
  Bench bench;
  bench.section = request.section;
  bench.out_fd = out_fd;
  bench.host = make_host(settings);
  MappedPlugin reference;
  auto references = load(request.reference, bench.host, reference);
  if (!references) return 2;
  bench.references = std::move(*references);
  bench.reference = Reference(bench.references);
  bench.begin("", "it loads");
  auto candidates = load(request.plugin, bench.host, bench.plugin);
  if (!candidates) {
    bench.say("", "it loads", State::fail, candidates.error().message);
    bench.line(std::string(kDone));
    return 0;
  }
  bench.candidates = std::move(*candidates);
  if (request.section == "abi") check_abi(bench);
  if (request.section == "results") check_results(bench);
  if (request.section == "behaviour") check_behaviour(bench);
  if (request.section == "threads") check_threads(bench);
  if (request.section == "cancel") check_cancel(bench);
  if (request.section == "leaks") check_leaks(bench);
  if (request.section == "speed") check_speed(bench);
  if (request.section == "shutdown") check_shutdown(bench);
  bench.line(std::string(kDone));
  return 0;
}

}  // namespace switchyard::check
