/* SPDX-License-Identifier: Apache-2.0 */
/* Right answers of a driver's device that is the processor itself: tried late. */
#define FIXTURE_ID "slow_start"
#define FIXTURE_TRAITS (SY_TRAIT_BIT_EXACT | SY_TRAIT_DETERMINISTIC | SY_TRAIT_DEVICE_MEMORY)
#include "fixture_plugin.h"
