/* SPDX-License-Identifier: Apache-2.0 */
/* Its kernel has no run. */
#define FIXTURE_ID "null_run"
#define FIXTURE_RUN NULL
#include "fixture_plugin.h"
