/* SPDX-License-Identifier: Apache-2.0 */
/* A constructor that aborts. */
#define FIXTURE_ID "abort_at_load"
#include "fixture_plugin.h"

#include <stdlib.h>

__attribute__((constructor)) static void give_up(void) { abort(); }
