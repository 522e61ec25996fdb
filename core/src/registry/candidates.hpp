// SPDX-License-Identifier: Apache-2.0
#pragma once
/// From a plugin's instances to candidates.

#include <vector>

#include "registry/candidate.hpp"

namespace switchyard {

/// One candidate a kernel. Names get "@instance" appended.
std::vector<std::unique_ptr<Candidate>> make_candidates(
    const MappedPlugin &plugin, const std::vector<DeviceInstance> &instances);

}  // namespace switchyard
