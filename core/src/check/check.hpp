// SPDX-License-Identifier: Apache-2.0
#pragma once
/// The conformance kit: everything a plugin file promises by its header, tried in worker processes.

#include <switchyard/result.hpp>

#include "check/report.hpp"

namespace switchyard::check {

struct Settings {
  std::string reference;  ///< path of the reference plugin
  std::string isa;        ///< cap, "" = none
};

/// Checks the file. An error only if there is nothing to check: io (no such file), backend (refused
/// by the loader, unavailable on this machine, or no worker). Takes up to a few minutes.
Result<Report> check_plugin(const std::string &path, const Settings &settings);

/// What one worker process is to do. Sections are run one after the other; one that ends its
/// process hides no other.
struct SectionRequest {
  std::string plugin, reference, isa, section;
};
std::string encode(const SectionRequest &request);
Result<SectionRequest> decode_section(const std::string &text);

/// The worker's side: answers on `out_fd`; returns the exit status.
int worker_check(const SectionRequest &request, int out_fd);

}  // namespace switchyard::check
