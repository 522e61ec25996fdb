// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Constants of MXFP4 that every backend shares. Plain data: nothing here leaves a function behind.

#include <stdint.h>

namespace switchyard::cpu {

/// ggml takes floorf(log2f(amax)), and log2f rounds up to the next integer a few units in the last
/// place below a power of two. of[b] counts those values of the binade with biased exponent b, so
/// that (bits + of[bits >> 23]) >> 23 is what ggml sees. They lie within half the spacing of floats
/// just below |k|, 2^k being the power, times ln 2; checked against log2f for every binade.
struct Log2Slack {
  uint8_t of[256];
};
consteval Log2Slack make_log2_slack() {
  constexpr uint8_t kCounts[] = {0, 0, 1, 2, 5, 11, 22, 44};
  Log2Slack slack{};
  for (int biased = 1; biased < 255; ++biased) {
    const int k = biased - 126;  // the logarithm of the power above
    // Towards zero from k the spacing is that of |k| - 1 above zero, of |k| below it.
    int magnitude = k > 0 ? k - 1 : -k, binade = 0;
    for (; magnitude > 0; magnitude /= 2) ++binade;
    slack.of[biased] = kCounts[binade];
  }
  return slack;
}
constexpr Log2Slack kLog2Slack = make_log2_slack();

}  // namespace switchyard::cpu
