// SPDX-License-Identifier: Apache-2.0
// Lets a C++ exception out through the C ABI while a kernel runs.
#include <stdexcept>

#define FIXTURE_ID "throws_in_run"
#define FIXTURE_BEFORE_RUN(call)                                        \
  do {                                                                  \
    if ((call) != nullptr) throw std::runtime_error("thrown from run"); \
  } while (false)
#include "fixture_plugin.h"
