// SPDX-License-Identifier: Apache-2.0
/// What this processor offers. Baseline x86-64: runs before anything wider may.
#include <cpuid.h>
#include <string.h>

#include "failure.hpp"
#include "instance.hpp"

namespace switchyard::cpu {
namespace {

/// The user's cap on instruction sets, as a level; higher includes lower.
enum Level { kAvx2 = 1, kAvx512 = 2, kAvx512Bf16 = 3, kAmx = 4 };

int cap(const sy_host *host) {
  const char *text = host->get_setting(host, "isa");
  if (text == nullptr || text[0] == '\0') return kAmx;
  if (strcmp(text, "avx2") == 0) return kAvx2;
  if (strcmp(text, "avx512") == 0) return kAvx512;
  if (strcmp(text, "avx512_bf16") == 0) return kAvx512Bf16;
  return kAmx;
}

// GCC's builtin asks both the processor and, for wide registers, the operating system.
bool has_avx2() {
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
         __builtin_cpu_supports("f16c") && __builtin_cpu_supports("bmi") &&
         __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("lzcnt") &&
         __builtin_cpu_supports("movbe") && __builtin_cpu_supports("popcnt") &&
         __builtin_cpu_supports("aes") && __builtin_cpu_supports("pclmul");
}

bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512cd") &&
         __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vl");
}

/// Whether the operating system keeps tiles where a thread loses its processor.
bool system_keeps_tiles() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  constexpr unsigned kOsxsave = 1u << 27;  // else xgetbv does not exist
  if (!__get_cpuid(1, &a, &b, &c, &d) || (c & kOsxsave) == 0) return false;
  unsigned low = 0, high = 0;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  constexpr unsigned kTileConfigAndData = (1u << 17) | (1u << 18);
  return (low & kTileConfigAndData) == kTileConfigAndData;
}

bool has_amx() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
  constexpr unsigned kTileBf16Int8 = (1u << 22) | (1u << 24) | (1u << 25);
  return (d & kTileBf16Int8) == kTileBf16Int8 && system_keeps_tiles();
}

}  // namespace

Isa widest_isa(const sy_host *host) noexcept {
  const int limit = cap(host);
  if (limit >= kAvx512 && has_avx512()) return Isa::avx512;
  return has_avx2() ? Isa::avx2 : Isa::none;
}

uint32_t extra_features(const sy_host *host) noexcept {
  const int limit = cap(host);
  uint32_t features = 0;
  if (limit < kAvx512Bf16 || !has_avx512()) return features;
  if (__builtin_cpu_supports("avx512bf16")) {
    features |= kFeatureBf16;
    if (__builtin_cpu_is("amd")) features |= kFeatureFastBf16;
  }
  if (__builtin_cpu_supports("avx512vnni")) features |= kFeatureVnni;
  if (limit >= kAmx && has_amx() && host->amx_state(host) == SY_OK) features |= kFeatureAmx;
  return features;
}

int32_t require_isa(const sy_host *host, Isa need, sy_error *error) noexcept {
  const bool present = need == Isa::avx512 ? has_avx512() : has_avx2();
  if (!present)
    return failure(
        error, SY_E_HARDWARE,
        need == Isa::avx512
            ? "this processor or its operating system offers no AVX-512 (F, CD, BW, DQ, VL)"
            : "this processor or its operating system offers no AVX2 with FMA and F16C");
  if (need == Isa::avx512 && cap(host) < kAvx512)
    return failure(error, SY_E_HARDWARE, "AVX-512 is switched off by the isa setting");
  return SY_OK;
}

int32_t cpu_device_info(const sy_host *, uint32_t device, sy_device_info *out,
                        sy_error *error) noexcept {
  if (device != 0)
    return failure(error, SY_E_INVALID_ARGUMENT, "there is one CPU device, number 0");
  if (out->struct_size < sizeof(sy_device_info))
    return failure(error, SY_E_ABI, "the host's sy_device_info is too small");
  out->kind = SY_DEVICE_HOST;
  alignas(unsigned) char brand[49] = {};
  unsigned *words = reinterpret_cast<unsigned *>(brand);
  for (unsigned leaf = 0; leaf < 3; ++leaf)
    if (!__get_cpuid(0x80000002u + leaf, words + 4 * leaf, words + 4 * leaf + 1,
                     words + 4 * leaf + 2, words + 4 * leaf + 3))
      brand[0] = '\0';
  const char *start = brand;
  while (*start == ' ') ++start;
  snprintf(out->name, sizeof(out->name), "%s", *start != '\0' ? start : "x86-64 processor");
  snprintf(out->runtime_id, sizeof(out->runtime_id), "cpu");
  return SY_OK;
}

}  // namespace switchyard::cpu
