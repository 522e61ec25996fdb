// SPDX-License-Identifier: Apache-2.0
#pragma once
/// The keys of run files.

#include "config/schema.hpp"

namespace switchyard::config {

const Section &run_section() noexcept;
/// The keys of a job; nullptr for an unknown operation.
const Section *job_section(std::string_view op) noexcept;
/// The operations that jobs may name.
std::span<const std::string_view> job_ops() noexcept;

/// Every section of run files as Markdown, as docs/configuration.md has it.
std::string run_markdown();

}  // namespace switchyard::config
