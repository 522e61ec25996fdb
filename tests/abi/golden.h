/* SPDX-License-Identifier: Apache-2.0
 *
 * Compiles in C11 and C++20, against today's headers and against the frozen ones of v1_0: the ABI
 * has the layout and the numbers of golden_1_0.inc, or this does not compile.
 */
#include <assert.h>
#include <stddef.h>
#include <switchyard/ops/attention.h>
#include <switchyard/ops/kmeans.h>
#include <switchyard/ops/quantize.h>

static_assert(sizeof(void *) == 8, "the golden is for 64-bit machines");
#define SIZE(TYPE, BYTES) static_assert(sizeof(TYPE) == (BYTES), "sizeof " #TYPE);
#define GROWS(TYPE, BYTES) static_assert(sizeof(TYPE) >= (BYTES), "sizeof " #TYPE);
#define OFFSET(TYPE, MEMBER, BYTES) \
  static_assert(offsetof(TYPE, MEMBER) == (BYTES), #TYPE "." #MEMBER);
#define VALUE(NAME, NUMBER) static_assert((NAME) == (NUMBER), #NAME);
#define TEXT(NAME, WORDS) static_assert(sizeof(NAME) == sizeof(WORDS), #NAME);
#include "golden_1_0.inc"
#if __has_include(<switchyard/ops/attention_kv.h>) /* headers later than 1.0 */
#include <switchyard/ops/attention_kv.h>
#include "golden_1_1.inc"
#endif
