// SPDX-License-Identifier: Apache-2.0
// Formats whose scale belongs to a part of the tensor (all of it, a row, a group, a channel):
// `measure` takes sums or maxima of blocks of 4,096 values, `combine` makes the parts' scales of
// them, `encode` writes codes. FORMAT: 64 ternary, 65 tern2, 66 i2_s, 80 int8.

#define BLOCK 4096
#define PIECE 128  // values that `encode` writes at a time
#define FLAG_NONFINITE 0
#define FLAG_OVERFLOW 1
#define MEAN (FORMAT != 80)

// Of x: everything that finds a value.
#define X_PARAMETERS                                                                             \
  ulong total, ulong part, int type, int flat, int rank, long8 shape, long8 strides, long cols,  \
      int saturate, global const uchar *x_all, long x_at
#define X_ARGUMENTS type, flat, rank, shape, strides, cols, x_all + x_at

// n <= 16 values from i on in logical order, zeros after them.
float16 values_at(ulong i, uint n, int type, int flat, int rank, long8 shape, long8 strides,
                  long cols, global const uchar *x) {
  const uint size = size_of(type);
  const ulong row = flat ? 0 : i / (ulong)cols, col = flat ? i : i % (ulong)cols;
  if (n == 16 && (flat || col + 16 <= (ulong)cols)) {
    const long at = flat ? (long)i : row_offset(row, rank, shape, strides) + (long)col;
    return load16(x + at * (long)size, type);
  }
  float plain[16];
  for (uint k = 0; k < 16; ++k) {
    plain[k] = 0.0f;
    if (k >= n) continue;
    const ulong j = i + k;
    const long at = flat ? (long)j
                         : row_offset(j / (ulong)cols, rank, shape, strides) +
                               (long)(j % (ulong)cols);
    plain[k] = load(x + at * (long)size, type);
  }
  return vload16(0, plain);
}

// NaN -> 0, infinities -> the largest finite value.
float16 saturated(float16 v, int type) {
  const float most = type == F32 ? 0x1.fffffep127f : type == BF16 ? 0x1.fep127f : 65504.0f;
  const int16 a = as_int16(v) & 0x7FFFFFFF;
  const float16 finite = a == INF_BITS ? copysign((float16)most, v) : v;
  return a > INF_BITS ? (float16)0.0f : finite;
}

bool any_nonfinite(float16 v) { return largest_int(as_int16(v) & 0x7FFFFFFF) >= INF_BITS; }

uint first_nonfinite(float16 v) {
  const int16 bad = (as_int16(v) & 0x7FFFFFFF) >= INF_BITS;
  return (uint)smallest_int(bad ? LANES16 : (int16)16);
}

#if MEAN
typedef double Partial;
#else
typedef float Partial;
#endif

// Block b of part p: tile t is block t % blocks of part t / blocks.
KERNEL void measure(ulong first, ulong end, X_PARAMETERS, ulong blocks, ulong all_blocks,
                    ulong launch_first, global Partial *partials, volatile global uint *flags) {
  FOR_TILES(t) {
    const ulong mine = t * GROUP + get_local_id(0);
    if (mine >= all_blocks) continue;
    const ulong p = mine / blocks, b = mine % blocks;
    const ulong i0 = p * part + b * BLOCK, n = SMALLER(part - b * BLOCK, (ulong)BLOCK);
    ulong k = 0;
#if MEAN
    double16 low = 0.0, high = 0.0;  // 32 running sums: value k of the block counts in lane k % 32
#else
    float16 most = 0.0f;
#endif
    // Whole blocks in one go; those with a bad value once more, with care.
    if (flat && n == BLOCK) {
      global const uchar *from = x_all + x_at + i0 * size_of(type);
      int16 bits = 0;
      for (; k < BLOCK; k += 32) {
        const float16 v = fabs(load16(from + k * size_of(type), type));
        const float16 w = fabs(load16(from + (k + 16) * size_of(type), type));
        bits = LARGER(as_int16(v), bits);
        bits = LARGER(as_int16(w), bits);
#if MEAN
        low += convert_double16(v);
        high += convert_double16(w);
#endif
      }
      if (largest_int(bits) >= INF_BITS) {
        k = 0;
#if MEAN
        low = high = 0.0;
      }
#else
      } else {
        most = as_float16(bits);
      }
#endif
    }
    for (; k < n; k += 16) {
      float16 v = values_at(i0 + k, (uint)SMALLER(n - k, (ulong)16), X_ARGUMENTS);
      if (any_nonfinite(v)) {
        if (saturate) {
          v = saturated(v, type);
        } else {
          atomic_min(&flags[FLAG_NONFINITE], (uint)(i0 + k - launch_first) + first_nonfinite(v));
          break;
        }
      }
#if MEAN
      if ((k & 16) == 0)
        low += convert_double16(fabs(v));
      else
        high += convert_double16(fabs(v));
#else
      most = LARGER(fabs(v), most);
#endif
    }
#if MEAN
    low += high;
    const double8 c = low.lo + low.hi;
    const double4 e = c.lo + c.hi;
    const double2 f = e.lo + e.hi;
    partials[mine] = f.x + f.y;
#else
    partials[mine] = largest_of(most);
#endif
  }
}

// One part a work-item: sums pairwise, the left part as large a power of two of blocks as leaves a
// right one.
KERNEL void combine(ulong first, ulong end, ulong total, ulong part, ulong blocks, ulong parts,
                    int type, global const Partial *partials, global float *scales,
                    global uchar *out_all, long out_at, volatile global uint *flags) {
  FOR_TILES(t) {
    const ulong p = t * GROUP + get_local_id(0);
    if (p >= parts) continue;
    global const Partial *mine = partials + p * blocks;
#if MEAN
    double stack[64];
    int top = 0;
    for (ulong b = 0; b < blocks; ++b) {
      double s = mine[b];
      for (ulong c = b; (c & 1) != 0; c >>= 1) s = stack[--top] + s;
      stack[top++] = s;
    }
    for (; top > 1; --top) stack[top - 2] = stack[top - 2] + stack[top - 1];
    const float mean = part != 0 ? (float)(stack[0] / (double)part) : 0.0f;
    const float scale = mean > 1e-5f ? mean : 1e-5f;
#else
    float most = 0.0f;
    for (ulong b = 0; b < blocks; ++b) most = LARGER(mine[b], most);
    const float scale = most / 127.0f;
#endif
    scales[p] = scale;
#if FORMAT == 64 || FORMAT == 80
    ((global float *)(out_all + out_at))[p] = scale;
#elif FORMAT == 65
    const float twice = rounded(2.0f * rounded(scale, type), type);
    if ((as_uint(twice) & 0x7FFFFFFFu) >= (uint)INF_BITS) atomic_min(&flags[FLAG_OVERFLOW], (uint)p);
#else
    global uchar *tail = out_all + out_at + total / 4;
    vstore4(as_uchar4(scale), 0, tail);
    for (int k = 4; k < 32; ++k) tail[k] = 0;
#endif
  }
}

#if FORMAT == 80
// Philox4x32-10 with counter {index / 4, 0, 0} for 16 indices: uniform in [0, 1), steps of 2^-24.
float16 uniform(ulong seed, ulong index) {
  const ulong16 at = index + convert_ulong16(LANES16), block = at / 4;
  uint16 c0 = convert_uint16(block), c1 = convert_uint16(block >> 32), c2 = 0, c3 = 0;
  uint k0 = (uint)seed, k1 = (uint)(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint16 a_low = c0 * 0xD2511F53u, a_high = mul_hi(c0, (uint16)0xD2511F53u);
    const uint16 b_low = c2 * 0xCD9E8D57u, b_high = mul_hi(c2, (uint16)0xCD9E8D57u);
    c0 = b_high ^ c1 ^ k0;
    c1 = b_low;
    c2 = a_high ^ c3 ^ k1;
    c3 = a_low;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  const uint16 word = convert_uint16(at) & 3u;
  const uint16 picked = word == 0u ? c0 : word == 1u ? c1 : word == 2u ? c2 : c3;
  return convert_float16(picked >> 8) * 0x1p-24f;
}
#endif

// `factor`: int8: the scale, ternary: one over it.
int16 codes_of(float16 v, float16 factor) {
#if FORMAT == 80
  const float16 q = v / factor;
  const float16 above = q > -127.0f ? q : (float16)-127.0f;
  const int16 code = convert_int16(EVEN(above < 127.0f ? above : (float16)127.0f));
  return factor != 0.0f ? code : (int16)0;
#else
  const float16 q = v * factor;
  const float16 above = q > -1.0f ? q : (float16)-1.0f;
  return convert_int16(EVEN(above < 1.0f ? above : (float16)1.0f));
#endif
}

#if FORMAT == 80
int16 stochastic_codes(float16 v, float16 scale, ulong seed, ulong index) {
  const float16 q = v / scale, low = floor(q);
  const float16 r = low + (uniform(seed, index) < q - low ? (float16)1.0f : (float16)0.0f);
  const float16 above = r > -127.0f ? r : (float16)-127.0f;
  const int16 code = convert_int16(above < 127.0f ? above : (float16)127.0f);
  return scale != 0.0f ? code : (int16)0;
}
#define FACTOR(scale) (scale)
#else
#define FACTOR(scale) (1.0f / (scale))
#endif

KERNEL void encode(ulong first, ulong end, X_PARAMETERS, ulong parts, int stochastic, ulong seed,
                   ulong group, global const float *scales, global uchar *codes_all, long codes_at,
                   global uchar *scales_all, long scales_at, global uchar *biases_all,
                   long biases_at) {
  global uchar *codes = codes_all + codes_at;
  const ulong pieces = (total + PIECE - 1) / PIECE;
  FOR_TILES(t) {
    const ulong last = SMALLER((t + 1) * TILE, pieces);
    for (ulong piece = t * TILE + get_local_id(0); piece < last; piece += GROUP) {
      const ulong i0 = piece * PIECE;
      const uint n = (uint)SMALLER(total - i0, (ulong)PIECE);
      int16 q[PIECE / 16];
      uint k = 0;
      const ulong p0 = parts == 1 ? 0 : i0 / part;
      // Whole pieces of one part.
      if (flat && n == PIECE && !saturate && !stochastic && (parts == 1 || i0 + n <= (p0 + 1) * part)) {
        const float16 factor = (float16)FACTOR(scales[p0]);
        global const uchar *from = x_all + x_at + i0 * size_of(type);
        for (; k < PIECE; k += 16)
          q[k / 16] = codes_of(load16(from + k * size_of(type), type), factor);
      }
      for (; k < n; k += 16) {
        const uint m = min(n - k, 16u);
        const ulong i = i0 + k, p = parts == 1 ? 0 : i / part;
        float16 v = values_at(i, m, X_ARGUMENTS);
        if (saturate && any_nonfinite(v)) v = saturated(v, type);
        float16 scale = (float16)scales[p];
        if (parts > 1 && i + m > (p + 1) * part) {  // several parts meet in these 16 values
          float each[16];
          for (uint l = 0; l < 16; ++l) each[l] = scales[min((i + l) / part, parts - 1)];
          scale = vload16(0, each);
        }
#if FORMAT == 80
        if (stochastic) {
          q[k / 16] = stochastic_codes(v, scale, seed, i);
          continue;
        }
#endif
        q[k / 16] = codes_of(v, FACTOR(scale));
      }
#if FORMAT == 64 || FORMAT == 80
      for (uint k = 0; k < n; k += 16) {
        const uchar16 bytes = as_uchar16(convert_char16(q[k / 16]));
        if (n - k >= 16) {
          vstore16(bytes, 0, codes + i0 + k);
        } else {
          uchar plain[16];
          vstore16(bytes, 0, plain);
          for (uint l = 0; l < n - k; ++l) codes[i0 + k + l] = plain[l];
        }
      }
#elif FORMAT == 65
      for (uint k = 0; k < n; k += 16) {
        const int16 c = q[k / 16] + 1;
        const int8 pairs = c.even | c.odd << 2;
        vstore4(convert_uchar4(pairs.even | pairs.odd << 4), 0, codes + (i0 + k) / 4);
      }
      for (ulong g = (i0 + group - 1) / group; g * group < i0 + n; ++g) {
        const float m = scales[parts == 1 ? 0 : g * group / part];
        store(scales_all + scales_at + (long)(g * size_of(type)), type, m);
        store(biases_all + biases_at + (long)(g * size_of(type)), type, -m);
      }
#else
      for (uint h = 0; h < 2; ++h) {
        const int16 c = (q[h] + 1) << 6 | (q[h + 2] + 1) << 4 | (q[h + 4] + 1) << 2 | (q[h + 6] + 1);
        vstore16(convert_uchar16(c), 0, codes + i0 / 4 + h * 16);
      }
#endif
    }
  }
}
