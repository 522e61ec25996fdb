// SPDX-License-Identifier: Apache-2.0
// Q4_K and Q6_K: scales that are searched for, sub-blocks in the lanes of a vector, so that each sum
// keeps its order.

#if FORMAT == 6  // Q4_K: eight sub-blocks of 32 in eight lanes, each sum in its own order
float8 clamped_even(float8 v, float low, float top) {
  const float8 above = v > low ? v : (float8)low;
  return EVEN(above < top ? above : (float8)top);
}
int clamped_even_1(float v, float low, float top) {
  if (!(v > low)) return (int)low;
  return (int)EVEN(v < top ? v : top);
}
typedef struct {
  float8 scale, min;
} Searched;
Searched search(const float8 *x, float8 *q) {
  float8 squares = 0.0f;
  for (int i = 0; i < 32; ++i) squares += x[i] * x[i];
  const float8 level = sqrt(squares / 32.0f);
  float8 w[32], min = x[0], max = x[0];
  for (int i = 0; i < 32; ++i) w[i] = level + fabs(x[i]);
  float8 sum_w = w[0], sum_x = w[0] * x[0];
  for (int i = 1; i < 32; ++i) {
    min = x[i] < min ? x[i] : min;
    max = x[i] > max ? x[i] : max;
    sum_w += w[i];
    sum_x += w[i] * x[i];
  }
  min = min > 0.0f ? (float8)0.0f : min;
  const float8 first_min = min;
  float8 inverse_step = 15.0f / (max - min);
  const int8 dead = (as_int8(inverse_step) & 0x7FFFFFFF) >= INF_BITS;
  float8 scale = 1.0f / inverse_step, best = 0.0f;
  for (int i = 0; i < 32; ++i) {
    q[i] = clamped_even(inverse_step * (x[i] - min), 0.0f, 15.0f);
    const float8 miss = scale * q[i] + min - x[i];
    best += w[i] * (miss * miss);
  }
  for (int k = 0; k <= 20; ++k) {
    inverse_step = (-1.0f + 0.1f * (float)k + 15.0f) / (max - min);
    float8 trial[32], sum_q = 0.0f, sum_qq = 0.0f, sum_qx = 0.0f;
    for (int i = 0; i < 32; ++i) {
      const float8 t = clamped_even(inverse_step * (x[i] - min), 0.0f, 15.0f);
      trial[i] = t;
      sum_q += w[i] * t;
      sum_qq += w[i] * t * t;
      sum_qx += w[i] * t * x[i];
    }
    const float8 determinant = sum_w * sum_qq - sum_q * sum_q;
    const float8 s_free = (sum_w * sum_qx - sum_x * sum_q) / determinant;
    const float8 m_free = (sum_qq * sum_x - sum_q * sum_qx) / determinant;
    const int8 above = m_free > 0.0f;
    const float8 m = above ? (float8)0.0f : m_free;
    const float8 s = above ? sum_qx / sum_qq : s_free;
    float8 error = 0.0f;
    for (int i = 0; i < 32; ++i) {
      const float8 miss = s * trial[i] + m - x[i];
      error += w[i] * (miss * miss);
    }
    const int8 better = (determinant > 0.0f) & (error < best);
    for (int i = 0; i < 32; ++i) q[i] = better ? trial[i] : q[i];
    best = better ? error : best;
    scale = better ? s : scale;
    min = better ? m : min;
  }
  for (int i = 0; i < 32; ++i) q[i] = dead ? (float8)0.0f : q[i];
  Searched found;
  found.scale = dead ? (float8)0.0f : scale;
  found.min = -(dead ? first_min : min);
  return found;
}
// Eight numbers in units of 1/63 of the largest above 0; one below 0 wraps around in 8 bits first.
float six_bits(float8 v, int *out) {
  float plain[8], largest = 0.0f;
  vstore8(v, 0, plain);
  for (int j = 0; j < 8; ++j)
    if (plain[j] > largest) largest = plain[j];
  float factor = largest > 0.0f ? 63.0f / largest : 0.0f;
  if ((as_uint(factor) & 0x7FFFFFFFu) >= (uint)INF_BITS) factor = 0.0f;
  for (int j = 0; j < 8; ++j) {
    const float f = factor * plain[j];
    const int n = !(f > -4194304.0f) ? -4194304 : (int)even_1(f < 4194303.0f ? f : 4194303.0f);
    out[j] = min(63, n & 255);
  }
  return largest / 63.0f;
}
bool encode(const Block *block, int type, int rule, global uchar *out) {
  float plain[UNIT];
  EACH(n) vstore16(block->v[n], n, plain);
  float8 x[32], q[32];
  for (int i = 0; i < 32; ++i)
    x[i] = (float8)(plain[i], plain[32 + i], plain[64 + i], plain[96 + i], plain[128 + i],
                    plain[160 + i], plain[192 + i], plain[224 + i]);
  const Searched found = search(x, q);
  int s[8], m[8];
  const bool d_fits = put_f16(out, six_bits(found.scale, s));
  const bool m_fits = put_f16(out + 2, six_bits(found.min, m));
  if (!d_fits || !m_fits) return false;
  for (int j = 0; j < 4; ++j) {
    out[4 + j] = (uchar)(s[j] | (s[j + 4] >> 4) << 6);
    out[8 + j] = (uchar)(m[j] | (m[j + 4] >> 4) << 6);
    out[12 + j] = (uchar)((s[j + 4] & 15) | (m[j + 4] & 15) << 4);
  }
  const float D = get_f16(out), M = get_f16(out + 2);
  const float8 d = D * convert_float8(vload8(0, s)), offset = M * convert_float8(vload8(0, m));
  for (int i = 0; i < 32; ++i) {
    const float8 again = clamped_even((x[i] + offset) / d, 0.0f, 15.0f);
    q[i] = d != 0.0f ? again : q[i];
  }
  for (int i = 0; i < 32; ++i) {
    const int8 v = convert_int8(q[i]);
    const int4 bytes = v.even | v.odd << 4;
    out[16 + i] = (uchar)bytes.s0;
    out[48 + i] = (uchar)bytes.s1;
    out[80 + i] = (uchar)bytes.s2;
    out[112 + i] = (uchar)bytes.s3;
  }
  return true;
}
#endif

#if FORMAT == 7  // Q6_K: sixteen sub-blocks of 16 in sixteen lanes
float16 clamped_even(float16 v, float low, float top) {
  const float16 above = v > low ? v : (float16)low;
  return EVEN(above < top ? above : (float16)top);
}
#define LEAST 1e-15f  // magnitudes below count as zero
float16 search(const float16 *x, float16 *q) {
  float16 amax = 0.0f, smax = 0.0f;
  for (int i = 0; i < 16; ++i) {
    const float16 a = fabs(x[i]);
    const int16 more = a > amax;
    amax = more ? a : amax;
    smax = more ? x[i] : smax;
  }
  const int16 dead = amax < LEAST;
  float16 scale = 0.0f, best = 0.0f;
  for (int trial = 0; trial < 19; ++trial) {
    const int k = trial == 0 ? 0 : trial <= 9 ? trial - 10 : trial - 9;
    const float16 inverse_step =
        trial == 0 ? -32.0f / smax : -(32.0f + 0.1f * (float)k) / smax;
    float16 sum_x = 0.0f, sum_q = 0.0f, l[16];
    for (int i = 0; i < 16; ++i) {
      const float16 t = clamped_even(inverse_step * x[i], -32.0f, 31.0f), w = x[i] * x[i];
      l[i] = t;
      sum_x += w * x[i] * t;
      sum_q += w * t * t;
    }
    const float16 ratio = sum_x / sum_q;
    const int16 first = trial == 0 ? (int16)-1 : (int16)0;
    const int16 better = first | ((sum_q > 0.0f) & (sum_x * sum_x > best * sum_q));
    const float16 s = first & (sum_q == 0.0f) ? (float16)0.0f : ratio;
    scale = better ? s : scale;
    best = better ? s * sum_x : best;
    for (int i = 0; i < 16; ++i) q[i] = better ? l[i] + 32.0f : q[i];
  }
  for (int i = 0; i < 16; ++i) q[i] = dead ? (float16)0.0f : q[i];
  return dead ? (float16)0.0f : scale;
}
bool encode(const Block *block, int type, int rule, global uchar *out) {
  float plain[UNIT], scales[16];
  EACH(n) vstore16(block->v[n], n, plain);
  float16 x[16], q[16];
  for (int i = 0; i < 16; ++i) {
    q[i] = 0.0f;
    x[i] = (float16)(plain[i], plain[16 + i], plain[32 + i], plain[48 + i], plain[64 + i],
                     plain[80 + i], plain[96 + i], plain[112 + i], plain[128 + i], plain[144 + i],
                     plain[160 + i], plain[176 + i], plain[192 + i], plain[208 + i],
                     plain[224 + i], plain[240 + i]);
  }
  const float16 found = search(x, q);
  vstore16(found, 0, scales);
  float largest = 0.0f;
  for (int j = 0; j < 16; ++j) {
    if ((as_uint(scales[j]) & 0x7FFFFFFFu) >= (uint)INF_BITS) return false;
    if (fabs(scales[j]) > fabs(largest)) largest = scales[j];
  }
  if (fabs(largest) < LEAST) {
    for (int i = 0; i < 210; ++i) out[i] = 0;
    return true;
  }
  const float inverse_step = -128.0f / largest;
  if (!put_f16(out + 208, 1.0f / inverse_step)) return false;
  const float16 s = clamped_even(inverse_step * found, -128.0f, 127.0f);
  vstore16(as_uchar16(convert_char16(s)), 0, out + 192);
  const float16 d = get_f16(out + 208) * s;
  uchar codes[UNIT];
  for (int i = 0; i < 16; ++i) {
    const float16 again = clamped_even(x[i] / d, -32.0f, 31.0f) + 32.0f;
    uchar lanes[16];
    vstore16(convert_uchar16(d != 0.0f ? again : q[i]), 0, lanes);
    for (int j = 0; j < 16; ++j) codes[16 * j + i] = lanes[j];
  }
  for (int h = 0; h < 2; ++h)
    for (int m = 0; m < 2; ++m) {
      const uchar *at = codes + 128 * h + 16 * m;
      const uchar16 a = vload16(0, at), b = vload16(2, at), c = vload16(4, at), e = vload16(6, at);
      vstore16((a & (uchar)15) | c << (uchar)4, 0, out + 64 * h + 16 * m);
      vstore16((b & (uchar)15) | e << (uchar)4, 0, out + 64 * h + 32 + 16 * m);
      vstore16(a >> (uchar)4 | (b >> (uchar)4) << (uchar)2 | (c >> (uchar)4) << (uchar)4 |
                   (e >> (uchar)4) << (uchar)6,
               0, out + 128 + 32 * h + 16 * m);
    }
  return true;
}
#endif
