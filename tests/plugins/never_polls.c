/* SPDX-License-Identifier: Apache-2.0 */
/* Right, but deaf: progress is never called. */
#define FIXTURE_ID "never_polls"
#define FIXTURE_POLLS 0
#include "fixture_plugin.h"
