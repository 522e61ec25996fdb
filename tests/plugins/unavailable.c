/* SPDX-License-Identifier: Apache-2.0 */
/* Nothing is wrong with it: the hardware it is for is not here. */
#define FIXTURE_ID "unavailable"
#define FIXTURE_PROBE return fixture_fail(error, SY_E_HARDWARE, "this machine has no abacus")
#include "fixture_plugin.h"
