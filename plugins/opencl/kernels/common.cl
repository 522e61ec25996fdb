// SPDX-License-Identifier: Apache-2.0
// What every program shares: element types, rows with strides, exact rounding. Results are defined
// bit by bit: nothing is contracted or reassociated.
#pragma OPENCL FP_CONTRACT OFF
#ifdef HAVE_FP64
#pragma OPENCL EXTENSION cl_khr_fp64 : enable
#endif

// Work-items of a group. A processor's device runs a group as one loop on one thread: there a group
// is one work-item that walks its tile with vector types.
#ifdef ON_CPU
#define GROUP 1
#else
#define GROUP 64
#endif
#define KERNEL kernel __attribute__((reqd_work_group_size(GROUP, 1, 1)))
// The tiles that are this group's, of those that the launch was given.
#define FOR_TILES(t) for (ulong t = first + get_group_id(0); t < end; t += get_num_groups(0))

#define F32 0
#define F16 1
#define BF16 2

#define LARGER(a, b) ((a) > (b) ? (a) : (b))
#define SMALLER(a, b) ((a) < (b) ? (a) : (b))

#define INF_BITS 0x7F800000

#if defined(ON_CPU) && defined(__clang__)
// PoCL's own vstores write one element after the other. Of clang's vectors a type may ask for less
// alignment: one instruction then.
#define DEFINE_STORE(E, N, SPACE)                                                             \
  typedef E##N E##N##_for_##SPACE __attribute__((aligned(sizeof(E))));                        \
  __attribute__((overloadable, always_inline)) void put##N(E##N v, ulong i, SPACE E *p) {     \
    *(SPACE E##N##_for_##SPACE *)(p + i * N) = v;                                             \
  }
#define DEFINE_STORES(E)      \
  DEFINE_STORE(E, 2, global)  \
  DEFINE_STORE(E, 4, global)  \
  DEFINE_STORE(E, 8, global)  \
  DEFINE_STORE(E, 16, global) \
  DEFINE_STORE(E, 2, private) \
  DEFINE_STORE(E, 4, private) \
  DEFINE_STORE(E, 8, private) \
  DEFINE_STORE(E, 16, private)
DEFINE_STORES(uchar)
DEFINE_STORES(ushort)
DEFINE_STORES(int)
DEFINE_STORES(uint)
DEFINE_STORES(long)
DEFINE_STORES(float)
#define vstore2 put2
#define vstore4 put4
#define vstore8 put8
#define vstore16 put16
#endif

// ---------------------------------------------------------------- half floats

float16 f16_to_f32(ushort16 h) {
  const uint16 u = convert_uint16(h);
  const uint16 sign = (u & 0x8000u) << 16, bits = (u & 0x7FFFu) << 13;
  const uint16 finite = as_uint16(as_float16(bits) * 0x1p112f);  // rebias, exactly
  return as_float16(sign | (bits >= (uint16)(0x7C00u << 13) ? (bits | (uint)INF_BITS) : finite));
}

float f16_to_f32_1(ushort h) {
  const uint sign = (uint)(h & 0x8000u) << 16, bits = (uint)(h & 0x7FFFu) << 13;
  const uint finite = as_uint(as_float(bits) * 0x1p112f);
  return as_float(sign | (bits >= (0x7C00u << 13) ? (bits | (uint)INF_BITS) : finite));
}

// Nearest, ties to even, with subnormals; from 65520 on infinite. NaN as sign | 0x7E00.
ushort16 f32_to_f16(float16 x) {
  const uint16 bits = as_uint16(x);
  const uint16 a = bits & 0x7FFFFFFFu, sign = (bits >> 16) & 0x8000u;
  // Adding 0.5 leaves multiples of 2^-24: a subnormal's units.
  const uint16 small = as_uint16(as_float16(a) + 0.5f) - 0x3F000000u;
  const uint16 normal = (a + 0x0FFFu + ((a >> 13) & 1u) - 0x38000000u) >> 13;
  uint16 h = a < (uint16)0x38800000u ? small : normal;
  h = a >= (uint16)0x477FF000u ? (uint16)0x7C00u : h;
  h = a > (uint16)INF_BITS ? (uint16)0x7E00u : h;
  return convert_ushort16(sign | h);
}

ushort f32_to_f16_1(float x) {
  const uint bits = as_uint(x), a = bits & 0x7FFFFFFFu, sign = (bits >> 16) & 0x8000u;
  if (a > (uint)INF_BITS) return (ushort)(sign | 0x7E00u);
  if (a >= 0x477FF000u) return (ushort)(sign | 0x7C00u);
  if (a < 0x38800000u) return (ushort)(sign | (as_uint(as_float(a) + 0.5f) - 0x3F000000u));
  return (ushort)(sign | ((a + 0x0FFFu + ((a >> 13) & 1u) - 0x38000000u) >> 13));
}

ushort16 f32_to_bf16(float16 x) {
  const uint16 bits = as_uint16(x);
  const uint16 rounded = (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;
  const uint16 nan = (bits >> 16) | 0x40u;
  return convert_ushort16((bits & 0x7FFFFFFFu) > (uint16)INF_BITS ? nan : rounded);
}

ushort f32_to_bf16_1(float x) {
  const uint bits = as_uint(x);
  if ((bits & 0x7FFFFFFFu) > (uint)INF_BITS) return (ushort)((bits >> 16) | 0x40u);
  return (ushort)((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16);
}

// ------------------------------------------------------------------- elements

uint size_of(int type) { return type == F32 ? 4u : 2u; }

float load(global const uchar *p, int type) {
  if (type == F32) return *(global const float *)p;
  const ushort h = *(global const ushort *)p;
  return type == BF16 ? as_float((uint)h << 16) : f16_to_f32_1(h);
}

float16 load16(global const uchar *p, int type) {
  if (type == F32) return vload16(0, (global const float *)p);
  if (type == F16) return vload_half16(0, (global const half *)p);
  return as_float16(convert_uint16(vload16(0, (global const ushort *)p)) << 16);
}

void store(global uchar *p, int type, float x) {
  if (type == F32)
    *(global float *)p = x;
  else
    *(global ushort *)p = type == BF16 ? f32_to_bf16_1(x) : f32_to_f16_1(x);
}

#if defined(ON_CPU) && defined(__has_builtin)
#if __has_builtin(__builtin_nontemporal_store)
#define HAVE_STREAM 1
#endif
#endif

#ifdef HAVE_STREAM
#define STREAM(v, T, p) __builtin_nontemporal_store(v, (global T *)(p))
#else
#define STREAM(v, T, p) vstore16(v, 0, p)
#endif

// Loops over the vectors of a block of UNIT values; short ones are written out, so that their vectors
// stay in registers.
#ifdef UNIT
#define NV (UNIT / 16)
#if UNIT <= 64
#define EACH(n) _Pragma("unroll") for (int n = 0; n < NV; ++n)
#else
#define EACH(n) for (int n = 0; n < NV; ++n)
#endif

void load_block(global const uchar *from, int type, float16 *v) {
  if (type == F32) {
    EACH(n) v[n] = vload16(n, (global const float *)from);
  } else if (type == F16) {
    EACH(n) v[n] = vload_half16(n, (global const half *)from);
  } else {
    EACH(n) v[n] = as_float16(convert_uint16(vload16(n, (global const ushort *)from)) << 16);
  }
}

// `stream` tells that `to` is aligned to what is written and that it will not be read soon.
void store_block(global uchar *to, int type, const float16 *v, int stream) {
  if (type == F32) {
    global float *p = (global float *)to;
    if (stream) {
      EACH(n) STREAM(v[n], float16, p + 16 * n);
    } else {
      EACH(n) vstore16(v[n], n, p);
    }
    return;
  }
  global ushort *p = (global ushort *)to;
  EACH(n) {
    const ushort16 h = type == BF16 ? f32_to_bf16(v[n]) : f32_to_f16(v[n]);
    if (stream)
      STREAM(h, ushort16, p + 16 * n);
    else
      vstore16(h, n, p);
  }
}
#endif

float rounded(float x, int type) {
  if (type == F32) return x;
  return type == BF16 ? as_float((uint)f32_to_bf16_1(x) << 16) : f16_to_f32_1(f32_to_f16_1(x));
}

float16 rounded16(float16 x, int type) {
  if (type == F32) return x;
  return type == BF16 ? as_float16(convert_uint16(f32_to_bf16(x)) << 16) : f16_to_f32(f32_to_f16(x));
}

// The element offset of row `row`: dimensions 0 .. rank - 2 of a tensor whose rows are its last.
long row_offset(ulong row, int rank, long8 shape, long8 strides) {
  long n[8], s[8];
  vstore8(shape, 0, n);
  vstore8(strides, 0, s);
  long offset = 0;
  for (int k = rank - 2; k >= 0; --k) {
    offset += (long)(row % (ulong)n[k]) * s[k];
    row /= (ulong)n[k];
  }
  return offset;
}

// ------------------------------------------------------------------- rounding

// To the nearest integer, ties to even, for any x.
float even_1(float x) {
  const float large = copysign(0x1.8p23f, x);
  return fabs(x) < 0x1p22f ? copysign((x + large) - large, x) : rint(x);
}
// The same where |x| < 2^22; -0 may become 0.
#define EVEN(x) (((x) + 0x1.8p23f) - 0x1.8p23f)

// --------------------------------------------------------------- over 16 lanes

float largest_of(float16 v) {
  const float8 a = LARGER(v.lo, v.hi);
  const float4 b = LARGER(a.lo, a.hi);
  const float2 c = LARGER(b.lo, b.hi);
  return LARGER(c.x, c.y);
}
float sum_of(float16 v) {
  const float8 a = v.lo + v.hi;
  const float4 b = a.lo + a.hi;
  const float2 c = b.lo + b.hi;
  return c.x + c.y;
}
float smallest_of(float16 v) {
  const float8 a = SMALLER(v.lo, v.hi);
  const float4 b = SMALLER(a.lo, a.hi);
  const float2 c = SMALLER(b.lo, b.hi);
  return SMALLER(c.x, c.y);
}
int largest_int(int16 v) {
  const int8 a = LARGER(v.lo, v.hi);
  const int4 b = LARGER(a.lo, a.hi);
  const int2 c = LARGER(b.lo, b.hi);
  return LARGER(c.x, c.y);
}
int smallest_int(int16 v) {
  const int8 a = SMALLER(v.lo, v.hi);
  const int4 b = SMALLER(a.lo, a.hi);
  const int2 c = SMALLER(b.lo, b.hi);
  return SMALLER(c.x, c.y);
}
uint all_bits(uint16 v) {
  const uint8 a = v.lo | v.hi;
  const uint4 b = a.lo | a.hi;
  const uint2 c = b.lo | b.hi;
  return c.x | c.y;
}
#define LANES16 ((int16)(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15))
