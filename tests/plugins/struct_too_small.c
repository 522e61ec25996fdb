/* SPDX-License-Identifier: Apache-2.0 */
/* struct_size ends before the function pointers. */
#include <switchyard/plugin.h>

#define FIXTURE_ID "struct_too_small"
#define FIXTURE_STRUCT_SIZE offsetof(sy_plugin, probe)
#include "fixture_plugin.h"
