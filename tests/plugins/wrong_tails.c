/* SPDX-License-Identifier: Apache-2.0 */
/* Right for whole groups of sixteen rows; the last row of a tail gets a wrong label. */
#define FIXTURE_ID "wrong_tails"
#define FIXTURE_LABEL(i, n, label, k) \
  ((n) % 16 != 0 && (i) + 1 == (n) ? (int32_t)(k) - (label) : (label))
#include "fixture_plugin.h"
