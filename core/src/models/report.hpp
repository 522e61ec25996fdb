// SPDX-License-Identifier: Apache-2.0
#pragma once
/// What a conversion tells: the journal's lines and the report.

#include "models/plan.hpp"

namespace switchyard::models {

/// A finished tensor as a line of the journal.
Json journal_entry(const TensorReport &report);
/// Fills in what a line tells; false if it is not one.
bool read_journal(const Json &entry, TensorReport &report);

/// The report of a plan before anything is done.
ModelReport report_of(const Plan &plan, const Source &source, const std::string &out);

}  // namespace switchyard::models
