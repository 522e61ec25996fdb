// SPDX-License-Identifier: Apache-2.0
// Bandwidth and multiply-add throughput over Highway's vectors; built once per instruction set.
#include "kernels.hpp"

#include <hwy/cache_control.h>
#include <hwy/highway.h>

#define SY_JOIN_(a, b) a##_##b
#define SY_JOIN(a, b) SY_JOIN_(a, b)
#define SY_TEXT_(a) #a
#define SY_TEXT(a) SY_TEXT_(a)

namespace switchyard::limits {
namespace {

namespace hn = hwy::HWY_NAMESPACE;
using D = hn::ScalableTag<uint64_t>;
constexpr size_t kLanes = hn::MaxLanes(D());
constexpr size_t kStep = 8 * kLanes;  // eight vectors: enough loads in flight
static_assert(kChunk % (kStep * sizeof(uint64_t)) == 0);

uint64_t read(const void *from, size_t bytes) noexcept {
  const D d;
  const auto *p = static_cast<const uint64_t *>(from);
  const uint64_t *end = p + bytes / sizeof(uint64_t);
  auto a = hn::Zero(d), b = a, e = a, f = a;
  for (; p < end; p += kStep) {
    a = hn::Xor(a, hn::Load(d, p));
    b = hn::Xor(b, hn::Load(d, p + kLanes));
    e = hn::Xor(e, hn::Load(d, p + 2 * kLanes));
    f = hn::Xor(f, hn::Load(d, p + 3 * kLanes));
    a = hn::Xor(a, hn::Load(d, p + 4 * kLanes));
    b = hn::Xor(b, hn::Load(d, p + 5 * kLanes));
    e = hn::Xor(e, hn::Load(d, p + 6 * kLanes));
    f = hn::Xor(f, hn::Load(d, p + 7 * kLanes));
  }
  return hn::GetLane(hn::SumOfLanes(d, hn::Xor(hn::Xor(a, b), hn::Xor(e, f))));
}

void write(void *to, size_t bytes, uint64_t value) noexcept {
  const D d;
  auto *p = static_cast<uint64_t *>(to);
  const auto v = hn::Set(d, value);
  for (uint64_t *end = p + bytes / sizeof(uint64_t); p < end; p += 4 * kLanes) {
    hn::Store(v, d, p);
    hn::Store(v, d, p + kLanes);
    hn::Store(v, d, p + 2 * kLanes);
    hn::Store(v, d, p + 3 * kLanes);
  }
}

void copy(void *to, const void *from, size_t bytes) noexcept {
  const D d;
  auto *out = static_cast<uint64_t *>(to);
  const auto *in = static_cast<const uint64_t *>(from);
  for (const uint64_t *end = in + bytes / sizeof(uint64_t); in < end;
       in += 4 * kLanes, out += 4 * kLanes) {
    const auto a = hn::Load(d, in), b = hn::Load(d, in + kLanes);
    const auto e = hn::Load(d, in + 2 * kLanes), f = hn::Load(d, in + 3 * kLanes);
    hn::Store(a, d, out);
    hn::Store(b, d, out + kLanes);
    hn::Store(e, d, out + 2 * kLanes);
    hn::Store(f, d, out + 3 * kLanes);
  }
}

void stream(void *to, size_t bytes, uint64_t value) noexcept {
  const D d;
  auto *p = static_cast<uint64_t *>(to);
  const auto v = hn::Set(d, value);
  for (uint64_t *end = p + bytes / sizeof(uint64_t); p < end; p += kLanes) hn::Stream(v, d, p);
  hwy::FlushStream();
}

void stream_copy(void *to, const void *from, size_t bytes) noexcept {
  const D d;
  auto *out = static_cast<uint64_t *>(to);
  const auto *in = static_cast<const uint64_t *>(from);
  for (const uint64_t *end = in + bytes / sizeof(uint64_t); in < end; in += kLanes, out += kLanes)
    hn::Stream(hn::Load(d, in), d, out);
  hwy::FlushStream();
}

// Twelve chains hide the latency of two multiply-adds a cycle and leave registers for the factors.
// They start apart, lest the compiler keep one of them for all; the factors draw every value
// towards one, so that none becomes subnormal or infinite.
template <class T>
void multiply_add(uint64_t rounds, float *sink) noexcept {
  const hn::ScalableTag<T> d;
  const T start = static_cast<T>(*sink);
  const auto from = [&](int n) { return hn::Set(d, start + static_cast<T>(n)); };
  auto a = from(1), b = from(2), c = from(3), e = from(4), f = from(5), g = from(6), h = from(7),
       i = from(8), j = from(9), k = from(10), l = from(11), m = from(12);
  const auto x = hn::Set(d, static_cast<T>(0.9999)), y = hn::Set(d, static_cast<T>(0.0001));
  for (uint64_t r = 0; r < rounds; ++r) {
    a = hn::MulAdd(a, x, y);
    b = hn::MulAdd(b, x, y);
    c = hn::MulAdd(c, x, y);
    e = hn::MulAdd(e, x, y);
    f = hn::MulAdd(f, x, y);
    g = hn::MulAdd(g, x, y);
    h = hn::MulAdd(h, x, y);
    i = hn::MulAdd(i, x, y);
    j = hn::MulAdd(j, x, y);
    k = hn::MulAdd(k, x, y);
    l = hn::MulAdd(l, x, y);
    m = hn::MulAdd(m, x, y);
  }
  const auto s = hn::Add(
      hn::Add(hn::Add(a, b), hn::Add(c, e)),
      hn::Add(hn::Add(hn::Add(f, g), hn::Add(h, i)), hn::Add(hn::Add(j, k), hn::Add(l, m))));
  *sink = static_cast<float>(hn::GetLane(hn::SumOfLanes(d, s)));
}

template <class T>
constexpr double kOps = 2.0 * 12 * hn::MaxLanes(hn::ScalableTag<T>());

}  // namespace

const MemoryKernels SY_JOIN(memory, SY_ISA) = {SY_TEXT(SY_ISA), read,       write, copy,
                                               stream,          stream_copy};
const ComputeKernel SY_JOIN(f32, SY_ISA) = {"f32", SY_TEXT(SY_ISA), kOps<float>,
                                            multiply_add<float>};
const ComputeKernel SY_JOIN(f64, SY_ISA) = {"f64", SY_TEXT(SY_ISA), kOps<double>,
                                            multiply_add<double>};

}  // namespace switchyard::limits
