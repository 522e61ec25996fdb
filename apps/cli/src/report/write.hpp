// SPDX-License-Identifier: Apache-2.0
#pragma once
/// From a report to its file, and what this machine adds to it.

#include "report.hpp"

namespace switchyard::cli::report {

/// This machine's limits as `info --json` gives them; null where they were not measured.
Json limits_here(const std::optional<std::string> &cache_dir);

/// Writes the page, with today's date.
Status write_page(const std::string &path, const Report &report);

}  // namespace switchyard::cli::report
