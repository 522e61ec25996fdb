/* SPDX-License-Identifier: Apache-2.0 */
/* Right for every problem that a gate can afford; with more than 200,000 rows the last label is
   wrong. */
#define FIXTURE_ID "wrong_when_large"
#define FIXTURE_LABEL(i, n, label, k) \
  ((n) > 200000 && (i) + 1 == (n) ? (int32_t)(k)-1 - (label) : (label))
#include "fixture_plugin.h"
