/* SPDX-License-Identifier: Apache-2.0 */
/* A required function pointer is null. */
#define FIXTURE_ID "null_function"
#define FIXTURE_CREATE NULL
#include "fixture_plugin.h"
