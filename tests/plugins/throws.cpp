// SPDX-License-Identifier: Apache-2.0
// Lets a C++ exception out through the C ABI while an instance is made.
#include <stdexcept>

#define FIXTURE_ID "throws"
#define FIXTURE_CREATE create_and_throw
#include "fixture.h"

static int32_t create_and_throw(const sy_host *, uint32_t, const sy_option *const *, uint32_t,
                                sy_instance **, sy_error *) {
  throw std::runtime_error("thrown across the C ABI");
}

#include "fixture_plugin.h"
