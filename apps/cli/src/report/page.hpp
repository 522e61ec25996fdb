// SPDX-License-Identifier: Apache-2.0
#pragma once
/// A report as one HTML file that needs nothing else: no network, no scripts.

#include "report.hpp"

namespace switchyard::cli::report {

/// `made` says when, in words.
std::string page(const Report &report, const std::string &made);

/// The page's style sheet.
std::string_view style() noexcept;

}  // namespace switchyard::cli::report
