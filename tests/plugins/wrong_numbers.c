/* SPDX-License-Identifier: Apache-2.0 */
/* Every label is the next cluster's. */
#define FIXTURE_ID "wrong_numbers"
#define FIXTURE_LABEL(i, n, label, k) ((int32_t)(((label) + 1) % ((k) + 1)))
#include "fixture_plugin.h"
