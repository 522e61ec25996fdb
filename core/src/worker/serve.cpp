// SPDX-License-Identifier: Apache-2.0
/// The worker's side of the protocol. Each line is written at once: what was said before a crash
/// tells which kernel caused it.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

#include "host/host.hpp"
#include "loader/plugin.hpp"
#include "registry/candidates.hpp"
#include "verify/gate.hpp"
#include "verify/guard_pages.hpp"
#include "worker/protocol.hpp"

namespace switchyard {
namespace {

void say(int fd, std::string line) {
  std::replace(line.begin(), line.end(), '\n', ' ');
  line += '\n';
  for (std::size_t at = 0; at < line.size();) {
    const ssize_t n = write(fd, line.data() + at, line.size() - at);
    if (n <= 0) return;
    at += static_cast<std::size_t>(n);
  }
}

Result<MappedPlugin> map_checked(const std::string &path) {
  auto file = check_plugin_file(path);
  return file ? map_plugin(*file) : Result<MappedPlugin>(tl::unexpected(file.error()));
}

Result<std::vector<std::unique_ptr<Candidate>>> load_candidates(const std::string &path,
                                                                const sy_host *host) {
  auto plugin = map_checked(path);
  if (!plugin) return tl::unexpected(plugin.error());
  auto instances = make_instances(*plugin, host);
  if (!instances) return tl::unexpected(instances.error());
  return make_candidates(*plugin, *instances);
}

}  // namespace

int worker_probe(const ProbeRequest &request, int out_fd) {
  const auto plugin = map_checked(request.plugin);
  const auto candidates = load_candidates(request.plugin, make_host({{"isa", request.isa}}));
  if (plugin && plugin->api->version != nullptr)
    say(out_fd, std::string(kVersion) + plugin->api->version);
  if (candidates)
    for (const auto &c : *candidates) say(out_fd, std::string(kKernel) + c->name);
  else
    say(out_fd, std::string(kUnavailable) + candidates.error().message);
  say(out_fd, std::string(kDone));
  return 0;
}

int worker_gate(const GateRequest &request, int out_fd) {
  report_guard_faults(out_fd);
  const sy_host *host = make_host({{"isa", request.isa}});
  const auto op = find_op(request.op);
  if (!op) return 2;
  const auto references = load_candidates(request.reference, host);
  const auto candidates = load_candidates(request.plugin, host);
  const Reference reference =
      references ? Reference(std::span<const std::unique_ptr<Candidate>>(*references))
                 : Reference();
  for (const std::string &name : request.kernels) {
    say(out_fd, std::string(kBegin) + name);
    const auto refuse = [&](std::string_view why) {
      say(out_fd, fmt::format("{}{} {}", kFail, name, why));
    };
    if (!candidates) {
      refuse(candidates.error().message);
      continue;
    }
    const auto it = std::find_if(candidates->begin(), candidates->end(),
                                 [&](const auto &c) { return c->name == name && c->op == *op; });
    if (it == candidates->end()) {
      refuse("the plugin offers it no more");
      continue;
    }
    const GateResult result =
        run_gate(**it, reference, request.shapes, kGateSeed, request.threads, Guards::pages);
    if (result.failure.empty())
      say(out_fd, fmt::format("{}{} {}", kPass, name, result.checks));
    else
      refuse(result.failure);
  }
  say(out_fd, std::string(kDone));
  return 0;
}

}  // namespace switchyard
