// SPDX-License-Identifier: Apache-2.0
#pragma once
/// The words in which kernels are written. nvcc compiles them for devices; any C++20 compiler for
/// the emulated device of the tests, where every thread of a block is a fiber and the same
/// arithmetic runs on the host (emulated.hpp).
///
/// A kernel takes one struct by value and all its shared memory from shared(). Collective functions
/// (sync_*, shuffle*, any_of, mma*, ldmatrix*) must be reached by all threads of their warp or
/// block.

#include <cstdint>

#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#define SY_DEVICE __device__ __forceinline__
#define SY_KERNEL(NAME, ARGUMENTS, THREADS, BLOCKS)             \
  extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS) \
      NAME(const __grid_constant__ ARGUMENTS a)
#define SY_UNROLL _Pragma("unroll")
#define SY_NO_UNROLL _Pragma("unroll 1")

namespace switchyard::cuda::device {

SY_DEVICE int thread() { return static_cast<int>(threadIdx.x); }
SY_DEVICE int threads() { return static_cast<int>(blockDim.x); }
SY_DEVICE std::int64_t block() { return blockIdx.x; }
SY_DEVICE int block_y() { return static_cast<int>(blockIdx.y); }
SY_DEVICE int block_z() { return static_cast<int>(blockIdx.z); }
SY_DEVICE std::int64_t blocks() { return gridDim.x; }
/// The block's dynamic shared memory, 16-byte aligned.
SY_DEVICE char *shared() {
  extern __shared__ __align__(16) char memory[];
  return memory;
}
SY_DEVICE void sync_block() { __syncthreads(); }
SY_DEVICE void sync_warp() { __syncwarp(); }
template <class T>
SY_DEVICE T shuffle(T v, int lane) {
  return __shfl_sync(0xFFFFFFFFu, v, lane);
}
template <class T>
SY_DEVICE T shuffle_xor(T v, int mask) {
  return __shfl_xor_sync(0xFFFFFFFFu, v, mask);
}
SY_DEVICE bool any_of(bool v) { return __any_sync(0xFFFFFFFFu, v) != 0; }

SY_DEVICE void atomic_add(std::int64_t *to, std::int64_t v) {
  atomicAdd(reinterpret_cast<unsigned long long *>(to), static_cast<unsigned long long>(v));
}
SY_DEVICE int atomic_add(int *to, int v) { return atomicAdd(to, v); }
SY_DEVICE void atomic_max(std::uint32_t *to, std::uint32_t v) { atomicMax(to, v); }
SY_DEVICE void atomic_min(std::uint64_t *to, std::uint64_t v) {
  atomicMin(reinterpret_cast<unsigned long long *>(to), static_cast<unsigned long long>(v));
}

SY_DEVICE float as_float(std::uint32_t bits) { return __uint_as_float(bits); }
SY_DEVICE std::uint32_t as_bits(float v) { return __float_as_uint(v); }
SY_DEVICE float fused(float a, float b, float c) { return __fmaf_rn(a, b, c); }
SY_DEVICE float half_to_float(std::uint16_t h) { return __half2float(__ushort_as_half(h)); }
SY_DEVICE std::uint16_t float_to_half(float v) {  // NaN is the caller's matter
  return __half_as_ushort(__float2half_rn(v));
}
SY_DEVICE float even(float v) { return rintf(v); }
SY_DEVICE float away(float v) { return roundf(v); }
SY_DEVICE double even(double v) { return rint(v); }
SY_DEVICE float root(float v) { return sqrtf(v); }
SY_DEVICE double scaled(double v, int exponent) { return ldexp(v, exponent); }
/// 2^v, to about 2 units in the last place; results below the normal numbers may be 0.
SY_DEVICE float exp2_fast(float v) {
  float r;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(v));
  return r;
}
SY_DEVICE float exp_accurate(float v) { return expf(v); }
SY_DEVICE float log_accurate(float v) { return logf(v); }
SY_DEVICE float tanh_accurate(float v) { return tanhf(v); }

struct alignas(16) Vector {
  std::uint32_t x, y, z, w;
};

/// 16 bytes from global to shared memory in the background, the last `16 - valid` of them zero.
SY_DEVICE void copy_async(void *to, const void *from, int valid) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(
                   static_cast<unsigned>(__cvta_generic_to_shared(to))),
               "l"(from), "r"(valid)
               : "memory");
}
SY_DEVICE void copy_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
/// Waits until at most N groups of this thread are under way.
template <int N>
SY_DEVICE void copy_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

/// Four 8x8 matrices of 16-bit elements; lane 8 i + r names row r of matrix i. Lane l gets of each
/// the elements 2 (l % 4) and the next of row l / 4; transposed: of column l / 4.
SY_DEVICE void ldmatrix(std::uint32_t (&r)[4], const void *row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(static_cast<unsigned>(__cvta_generic_to_shared(row)))
               : "memory");
}
SY_DEVICE void ldmatrix_transposed(std::uint32_t (&r)[4], const void *row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(static_cast<unsigned>(__cvta_generic_to_shared(row)))
               : "memory");
}

struct Bf16 {};
struct F16 {};

/// c += a b of 16x16 and 16x8 elements, in the fragments of mma.m16n8k16.
SY_DEVICE void mma(Bf16, float (&c)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                   std::uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
SY_DEVICE void mma(F16, float (&c)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                   std::uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
/// Two values rounded to 16 bits, the first in the low half.
SY_DEVICE std::uint32_t pack(Bf16, float low, float high) {
  std::uint32_t r;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
  return r;
}
SY_DEVICE std::uint32_t pack(F16, float low, float high) {
  std::uint32_t r;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
  return r;
}

}  // namespace switchyard::cuda::device

#else
#include "emulated.hpp"
#endif
