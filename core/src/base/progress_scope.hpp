// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <switchyard/progress.hpp>

namespace switchyard {

/// Has the call report to the thread's innermost ProgressScope, unless it reports elsewhere.
void watch(sy_call &call) noexcept;

}  // namespace switchyard
