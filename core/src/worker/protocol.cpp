// SPDX-License-Identifier: Apache-2.0
#include "worker/protocol.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <sstream>

#include "worker/client.hpp"

namespace switchyard {
namespace {

constexpr std::uint32_t kProbeDeadlineMs = 10'000;
constexpr std::uint32_t kGateDeadlineMs = 15'000;

using Json = nlohmann::json;

Result<Json> parse_request(const std::string &text) {
  Json json = Json::parse(text, nullptr, false);
  if (!json.is_object()) return fail(ErrorCode::usage, "the request is not a JSON object");
  return json;
}

bool starts(std::string_view line, std::string_view word) {
  return line.substr(0, word.size()) == word;
}

std::vector<std::string> lines_of(const std::string &text) {
  std::vector<std::string> out;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) out.push_back(line);
  return out;
}

std::string what_happened(const WorkerRun &run) {
  return run.failure.empty() ? "ended the process (exit status 0) without an answer" : run.failure;
}

}  // namespace

std::string encode(const ProbeRequest &r) {
  return Json{{"plugin", r.plugin}, {"isa", r.isa}}.dump();
}

std::string encode(const GateRequest &r) {
  Json shapes = Json::array();
  for (const Shape &s : r.shapes) shapes.push_back(s.text());
  return Json{{"plugin", r.plugin},  {"reference", r.reference}, {"op", r.op},
              {"isa", r.isa},        {"kernels", r.kernels},     {"shapes", shapes},
              {"threads", r.threads}}
      .dump();
}

Result<ProbeRequest> decode_probe(const std::string &text) {
  const auto json = parse_request(text);
  if (!json) return tl::unexpected(json.error());
  return ProbeRequest{json->value("plugin", ""), json->value("isa", "")};
}

Result<GateRequest> decode_gate(const std::string &text) {
  const auto json = parse_request(text);
  if (!json) return tl::unexpected(json.error());
  GateRequest r;
  r.plugin = json->value("plugin", "");
  r.reference = json->value("reference", "");
  r.op = json->value("op", "");
  r.isa = json->value("isa", "");
  r.kernels = json->value("kernels", std::vector<std::string>{});
  r.threads = json->value("threads", 1u);
  for (const std::string &s : json->value("shapes", std::vector<std::string>{})) {
    auto shape = Shape::parse(s);
    if (!shape) return tl::unexpected(shape.error());
    r.shapes.push_back(std::move(*shape));
  }
  return r;
}

Result<ProbeAnswer> describe_in_worker(const ProbeRequest &request) {
  const auto run = run_worker({"probe", encode(request)}, kProbeDeadlineMs);
  if (!run) return tl::unexpected(run.error());
  ProbeAnswer answer;
  const auto lines = lines_of(run->output);
  for (const std::string &line : lines) {
    if (starts(line, kUnavailable)) answer.unavailable = line.substr(kUnavailable.size());
    if (starts(line, kVersion)) answer.version = line.substr(kVersion.size());
    if (starts(line, kKernel)) answer.kernels.push_back(line.substr(kKernel.size()));
  }
  if (lines.empty() || lines.back() != kDone) answer.failure = what_happened(*run);
  return answer;
}

Result<std::string> probe_in_worker(const ProbeRequest &request) {
  auto answer = describe_in_worker(request);
  if (!answer) return tl::unexpected(answer.error());
  return std::move(answer->failure);
}

Result<std::vector<GateVerdict>> gate_in_worker(GateRequest request) {
  std::vector<GateVerdict> verdicts;
  // A kernel that takes the worker down is set aside and the others get a fresh worker.
  while (!request.kernels.empty()) {
    const auto run = run_worker({"gate", encode(request)}, kGateDeadlineMs, request.background);
    if (!run) return tl::unexpected(run.error());
    std::string current, fault;
    bool done = false;
    for (const std::string &line : lines_of(run->output)) {
      if (starts(line, kBegin)) current = line.substr(kBegin.size());
      if (starts(line, kPass)) verdicts.push_back({current, ""});
      if (starts(line, kFail))
        verdicts.push_back({current, line.substr(kFail.size() + current.size() + 1)});
      if (starts(line, kPass) || starts(line, kFail)) {
        std::erase(request.kernels, current);
        current.clear();
      }
      if (starts(line, kFault)) fault = line.substr(kFault.size());
      done = line == kDone;
    }
    if (done) break;
    if (current.empty()) current = request.kernels.empty() ? "" : request.kernels.front();
    if (!current.empty())
      verdicts.push_back(
          {current, !fault.empty() ? fault : what_happened(*run) + " in the worker"});
    std::erase(request.kernels, current);
  }
  for (const std::string &left : request.kernels)
    verdicts.push_back({left, "the worker did not judge it"});
  return verdicts;
}

}  // namespace switchyard
