// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string>

namespace switchyard {

/// "350 ns", "12.3 us", "4.56 ms", "7.89 s".
std::string duration_text(double ns);

}  // namespace switchyard
