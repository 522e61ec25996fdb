// SPDX-License-Identifier: Apache-2.0
#include "check/check.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <sstream>

#include "loader/elf_symbols.hpp"
#include "loader/plugin_file.hpp"
#include "worker/client.hpp"
#include "worker/protocol.hpp"

#include <switchyard/plugin.h>

namespace switchyard::check {
namespace {

struct SectionPlan {
  const char *name;
  std::uint32_t deadline_ms;
};
constexpr std::array kSections{SectionPlan{"abi", 30'000},        SectionPlan{"results", 300'000},
                               SectionPlan{"behaviour", 120'000}, SectionPlan{"threads", 120'000},
                               SectionPlan{"cancel", 120'000},    SectionPlan{"leaks", 120'000},
                               SectionPlan{"shutdown", 60'000},   SectionPlan{"speed", 120'000}};

bool starts(std::string_view line, std::string_view word) {
  return line.substr(0, word.size()) == word;
}

/// Runs one section; what ended its process early is an item too.
Status run_section(const SectionPlan &plan, SectionRequest request, Report &report) {
  request.section = plan.name;
  const auto run = run_worker({"check", encode(request)}, plan.deadline_ms);
  if (!run) return tl::unexpected(run.error());
  std::string kernel, name = "the section runs", fault;
  bool done = false;
  std::istringstream lines(run->output);
  for (std::string line; std::getline(lines, line);) {
    if (starts(line, kBegin)) {
      const auto tab = line.find('\t');
      kernel = line.substr(kBegin.size(), tab - kBegin.size());
      name = tab == std::string::npos ? "" : line.substr(tab + 1);
    } else if (starts(line, kFault)) {
      fault = line.substr(kFault.size());
    } else if (line == kDone) {
      done = true;
    } else {
      decode(line, report);
    }
  }
  if (done && run->failure.empty()) {
    // Nothing but a good end says so of itself.
    if (request.section == "shutdown")
      report.items.push_back({plan.name, name, kernel, State::pass, ""});
    return {};
  }
  const std::string why = !fault.empty()          ? fault
                          : !run->failure.empty() ? run->failure
                                                  : "the process ended without an answer";
  report.items.push_back({plan.name, name, kernel, State::fail, why});
  return {};
}

void check_symbols(const std::string &path, Report &report) {
  const std::string name = "it exports one symbol";
  const auto symbols = exported_symbols(path);
  if (!symbols) {
    report.items.push_back({"file", name, "", State::fail, symbols.error().message});
    return;
  }
  std::vector<std::string> more = *symbols;
  std::erase(more, SY_PLUGIN_SYMBOL);
  if (more.empty())
    report.items.push_back({"file", name, "", State::pass, SY_PLUGIN_SYMBOL});
  else
    report.items.push_back(
        {"file", name, "", State::fail,
         fmt::format("also exported: {}; use switchyard_add_plugin or a version script",
                     fmt::join(more, ", "))});
}

}  // namespace

Result<Report> check_plugin(const std::string &path, const Settings &settings) {
  std::error_code missing;
  if (!std::filesystem::exists(path, missing)) {
    Error error{ErrorCode::io, "there is no such file", path, 0, 0, -1, {}};
    return tl::unexpected(std::move(error));
  }
  const auto file = check_plugin_file(std::filesystem::absolute(path).string());
  if (!file) return tl::unexpected(file.error());
  Report report;
  report.path = file->path;
  report.id = file->note.id;
  report.content_hash = file->hash;
  report.items.push_back({"file", "owner, permissions, ELF note", "", State::pass,
                          fmt::format("plugin ABI {}.{}, this host {}.{}", file->note.abi_major,
                                      file->note.abi_minor, SY_ABI_MAJOR, SY_ABI_MINOR)});
  check_symbols(file->path, report);

  const auto probe = describe_in_worker({file->path, settings.isa});
  if (!probe) return tl::unexpected(probe.error());
  if (!probe->unavailable.empty())
    return fail(ErrorCode::backend,
                fmt::format("{}: not available on this machine: {}", path, probe->unavailable));
  if (!probe->failure.empty()) {
    report.items.push_back({"file", "it loads", "", State::fail,
                            "when tried in a separate process it " + probe->failure});
    return report;
  }
  report.version = probe->version;
  report.kernels = probe->kernels;
  report.items.push_back(
      {"file", "it loads", "", State::pass,
       fmt::format("{} kernels: {}", probe->kernels.size(), fmt::join(probe->kernels, ", "))});
  if (probe->kernels.empty())
    report.items.push_back({"file", "it offers kernels of known operations", "", State::fail,
                            "none of its kernels names an operation of this version"});
  const SectionRequest request{file->path, settings.reference, settings.isa, ""};
  for (const SectionPlan &plan : kSections)
    if (auto ok = run_section(plan, request, report); !ok) return tl::unexpected(ok.error());
  return report;
}

}  // namespace switchyard::check
