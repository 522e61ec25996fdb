/* SPDX-License-Identifier: Apache-2.0 */
/* Passes every gate: only calls of more than 100,000 rows are wrong, and only in the last row of an
 * incomplete group of sixteen. */
#define FIXTURE_ID "wrong_tails_later"
#define FIXTURE_LABEL(i, n, label, k) \
  ((n) > 100000 && (n) % 16 != 0 && (i) + 1 == (n) ? ((label) + 1) % (int32_t)(k) : (label))
#include "fixture_plugin.h"
