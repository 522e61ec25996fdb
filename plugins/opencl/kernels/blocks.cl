// SPDX-License-Identifier: Apache-2.0
// A block or group of UNIT values and how it is encoded: FORMAT (sy_quant_format), BITS a code of the
// affine formats. quantize.cl drives it.

// Of every launch: where the first error is, as value index within the launch.
#define FLAG_NONFINITE 0
#define FLAG_OVERFLOW 1

typedef struct {
  float16 v[NV];
} Block;

float amax_of(const Block *x) {
  float16 m = fabs(x->v[0]);
  for (int n = 1; n < NV; ++n) m = LARGER(fabs(x->v[n]), m);
  return largest_of(m);
}

int top_bits(const Block *x) {
  int16 m = as_int16(x->v[0]) & 0x7FFFFFFF;
  for (int n = 1; n < NV; ++n) {
    const int16 b = as_int16(x->v[n]) & 0x7FFFFFFF;
    m = LARGER(b, m);
  }
  return largest_int(m);
}

float largest_finite(int type) {
  return type == F32 ? 0x1.fffffep127f : type == BF16 ? 0x1.fep127f : 65504.0f;
}

// NaN -> 0, infinities -> the largest finite value; or the first one's place is noted: false.
bool settle_nonfinite(Block *x, int type, int saturate, uint at, volatile global uint *flags) {
  float plain[UNIT];
  EACH(n) vstore16(x->v[n], n, plain);
  for (int i = 0; i < UNIT; ++i) {
    const uint bits = as_uint(plain[i]), a = bits & 0x7FFFFFFFu;
    if (a < (uint)INF_BITS) continue;
    if (!saturate) {
      atomic_min(&flags[FLAG_NONFINITE], at + (uint)i);
      return false;
    }
    plain[i] = a > (uint)INF_BITS ? 0.0f : copysign(largest_finite(type), plain[i]);
  }
  EACH(n) x->v[n] = vload16(n, plain);
  return true;
}

float inverse(float d) {
  if (d == 0.0f) return 0.0f;
  const float id = 1.0f / d;
  return (as_uint(id) & 0x7FFFFFFFu) < (uint)INF_BITS ? id : 0.0f;
}

bool put_f16(global uchar *out, float d) {
  const ushort h = f32_to_f16_1(d);
  out[0] = (uchar)h;
  out[1] = (uchar)(h >> 8);
  return (h & 0x7FFFu) < 0x7C00u;
}

float get_f16(global const uchar *p) { return f16_to_f32_1((ushort)(p[0] | p[1] << 8)); }

// Half away from zero, |v| < 2^22.
int16 away(float16 v) { return convert_int16(v + copysign((float16)0.49999997f, v)); }

// Two codes of 4 bits a byte; four of 2 bits.
uchar8 pack4(int16 q) { return convert_uchar8(q.even | q.odd << 4); }
uchar4 pack2(int16 q) {
  const int8 pairs = q.even | q.odd << 2;
  return convert_uchar4(pairs.even | pairs.odd << 4);
}

#if FORMAT == 1 || FORMAT == 3  // Q4_0, Q5_0
#define WITH_SMAX 1
#endif

#ifdef WITH_SMAX
// The signed value of the first x of the largest magnitude. Keys: twice the place, odd if negative.
float smax_of(const Block *x) {
  const float amax = amax_of(x);
  if (amax == 0.0f) return 0.0f;
  int16 key = (int16)(4 * UNIT);
  EACH(n) {
    const int16 mine = 2 * (LANES16 + 16 * n) + as_int16(as_uint16(x->v[n]) >> 31);
    const int16 place = fabs(x->v[n]) == amax ? mine : (int16)(4 * UNIT);
    key = SMALLER(place, key);
  }
  return (smallest_int(key) & 1) != 0 ? -amax : amax;
}
#endif

#if FORMAT == 2 || FORMAT == 4  // Q4_1, Q5_1
// Of equal extremes the first counts: it decides the sign of a zero.
void extremes_of(const Block *x, float *min, float *max) {
  *min = smallest_of(SMALLER(x->v[0], x->v[1]));
  *max = largest_of(LARGER(x->v[0], x->v[1]));
  if (*min != 0.0f && *max != 0.0f) return;
  float plain[UNIT];
  EACH(n) vstore16(x->v[n], n, plain);
  bool found = false;
  for (int i = 0; i < UNIT && !found; ++i)
    if (plain[i] == 0.0f) {
      if (*min == 0.0f) *min = plain[i];
      if (*max == 0.0f) *max = plain[i];
      found = true;
    }
}
#endif

#if FORMAT == 1
bool encode(const Block *x, int type, int rule, global uchar *out) {
  const float d = smax_of(x) / -8.0f, id = inverse(d);
  const int16 lo = convert_int16(x->v[0] * id + 8.5f), hi = convert_int16(x->v[1] * id + 8.5f);
  vstore16(convert_uchar16(SMALLER(lo, 15) | SMALLER(hi, 15) << 4), 0, out + 2);
  return put_f16(out, d);
}
#elif FORMAT == 2
bool encode(const Block *x, int type, int rule, global uchar *out) {
  float min, max;
  extremes_of(x, &min, &max);
  const float d = (max - min) / 15.0f, id = inverse(d);
  const int16 lo = convert_int16((x->v[0] - min) * id + 0.5f);
  const int16 hi = convert_int16((x->v[1] - min) * id + 0.5f);
  vstore16(convert_uchar16(SMALLER(lo, 15) | SMALLER(hi, 15) << 4), 0, out + 4);
  const bool d_fits = put_f16(out, d), m_fits = put_f16(out + 2, min);
  return d_fits && m_fits;
}
#elif FORMAT == 3 || FORMAT == 4
uint fifth_bits(int16 lo, int16 hi) {
  const uint16 place = as_uint16(LANES16);
  return all_bits((as_uint16(lo) >> 4) << place | (as_uint16(hi) >> 4) << (place + 16u));
}
void put_u32(global uchar *out, uint v) { vstore4(as_uchar4(v), 0, out); }
bool encode(const Block *x, int type, int rule, global uchar *out) {
#if FORMAT == 3
  const float d = smax_of(x) / -16.0f, id = inverse(d);
  int16 lo = convert_int16(x->v[0] * id + 16.5f), hi = convert_int16(x->v[1] * id + 16.5f);
  const int head = 2;
#else
  float min, max;
  extremes_of(x, &min, &max);
  const float d = (max - min) / 31.0f, id = inverse(d);
  int16 lo = convert_int16((x->v[0] - min) * id + 0.5f);
  int16 hi = convert_int16((x->v[1] - min) * id + 0.5f);
  const int head = 4;
#endif
  lo = SMALLER(lo, 31);
  hi = SMALLER(hi, 31);
  put_u32(out + head, fifth_bits(lo, hi));
  vstore16(convert_uchar16((lo & 15) | (hi & 15) << 4), 0, out + head + 4);
  bool fits = put_f16(out, d);
#if FORMAT == 4
  fits = put_f16(out + 2, min) && fits;
#endif
  return fits;
}
#elif FORMAT == 5
bool encode(const Block *x, int type, int rule, global uchar *out) {
  const float d = amax_of(x) / 127.0f, id = inverse(d);
  EACH(n) vstore16(as_uchar16(convert_char16(away(x->v[n] * id))), n, out + 2);
  return put_f16(out, d);
}
#elif FORMAT == 8 || FORMAT == 9 || FORMAT == 10  // TQ1_0, TQ2_0, Q2_0
#define ABSMEAN 2
// Codes 0, 1, 2 and the scale: the largest magnitude, or the mean of the magnitudes.
float ternary_codes(const Block *x, int rule, int16 *t) {
#ifdef HAVE_FP64
  if (rule == ABSMEAN) {
    double16 a = 0.0, b = 0.0;
    for (int n = 0; n < NV; n += 2) {
      a += convert_double16(fabs(x->v[n]));
      b += convert_double16(fabs(x->v[n + 1]));
    }
    a += b;
    const double8 c = a.lo + a.hi;
    const double4 e = c.lo + c.hi;
    const double2 f = e.lo + e.hi;
    const float mean = (float)((f.x + f.y) / (double)UNIT);
    const float m = mean > 1e-5f ? mean : 1e-5f;
    const float im = 1.0f / m;
    EACH(n) {
      const float16 v = x->v[n] * im;
      const float16 low = v > -1.0f ? v : (float16)-1.0f;
      const float16 both = low < 1.0f ? low : (float16)1.0f;
      t[n] = convert_int16(EVEN(both)) + 1;
    }
    return m;
  }
#endif
  const float d = amax_of(x), id = inverse(d);
  EACH(n) {
    const int16 q = away(x->v[n] * id) + 1;
    const int16 low = LARGER(q, 0);
    t[n] = SMALLER(low, 3);
  }
  return d;
}
#if FORMAT == 8
// (256 v + 242) / 243, v < 243.
#define BYTE_OF_DIGITS(v) (((v) * 256u + 242u) * 69043u >> 24)
uchar16 five_digits(int16 v) { return convert_uchar16(BYTE_OF_DIGITS(as_uint16(v))); }
bool encode(const Block *x, int type, int rule, global uchar *out) {
  int16 t[NV];
  const float d = ternary_codes(x, rule, t);
  for (int h = 0; h < 2; ++h) {
    int16 v = t[h];
    for (int n = 1; n < 5; ++n) v = v * 3 + t[2 * n + h];
    vstore16(five_digits(v), h, out);
  }
  int16 v = t[10];
  for (int n = 11; n < 15; ++n) v = v * 3 + t[n];
  vstore16(five_digits(v), 2, out);
  const int16 last = t[15];
  const int4 w = (((last.s0123 * 3 + last.s4567) * 3 + last.s89ab) * 3 + last.scdef) * 3;
  vstore4(convert_uchar4(BYTE_OF_DIGITS(as_uint4(w))), 0, out + 48);
  return put_f16(out + 52, d);
}
#elif FORMAT == 9
bool encode(const Block *x, int type, int rule, global uchar *out) {
  int16 t[NV];
  const float d = ternary_codes(x, rule, t);
  for (int h = 0; h < 2; ++h)
    for (int m = 0; m < 2; ++m) {
      const int16 *u = t + 8 * h + m;
      vstore16(convert_uchar16(u[0] | u[2] << 2 | u[4] << 4 | u[6] << 6), 2 * h + m, out);
    }
  return put_f16(out + 64, d);
}
#else
bool encode(const Block *x, int type, int rule, global uchar *out) {
  int16 t[NV];
  const float d = ternary_codes(x, rule, t);
  EACH(n) vstore4(pack2(t[n]), n, out + 2);
  return put_f16(out, d);
}
#endif
#elif FORMAT == 11 || FORMAT == 12  // MXFP4
#define FLOOR 3
#define RCEIL 4
constant uchar kLog2Slack[256] = {LOG2_SLACK};
int floor_exponent(float amax) {
  const uint bits = as_uint(amax);
  const int log2 = (int)((bits + kLog2Slack[bits >> 23]) >> 23);
  return LARGER(log2 - 2, 0);
}
int rceil_exponent(float sixth) {
  if (sixth == 0.0f) return 127;
  const uint bits = as_uint(sixth);
  return (int)(bits >> 23) + ((bits & 0x7FFFFFu) != 0 ? 1 : 0);
}
// 2^n for -127 <= n <= 127.
float power_of_2(int n) { return n == -127 ? 0x1p-127f : as_float((uint)(n + 127) << 23); }
int16 codes_of(float16 x, float factor) {
  const float16 v = fabs(x) * factor;
  // From 1 on exponent and one bit of the mantissa, ties down, are the code; a comparison that holds
  // is -1.
  const int16 large = as_int16((as_uint16(v) + 0x1FFFFFu) >> 22) - 252;
  const int16 small = -((v > 0.25f) + (v > 0.75f));
  const int16 q = min(max(large, small), (int16)7);
  return q != 0 ? q | as_int16(as_uint16(x) >> 31) << 3 : q;
}
#if FORMAT == 11
bool encode(const Block *x, int type, int rule, global uchar *out) {
  const float amax = amax_of(x);
  const int e = rule == RCEIL ? rceil_exponent(amax / 6.0f) : floor_exponent(amax);
  const float factor = power_of_2(127 - e);
  out[0] = (uchar)e;
  vstore16(convert_uchar16(codes_of(x->v[0], factor) | codes_of(x->v[1], factor) << 4), 0, out + 1);
  return true;
}
#endif
#endif

#if FORMAT >= 32 && FORMAT <= 38  // MLX affine
#define WITH_SCALES 1
void put_codes(int n, int16 q, uint *words) {
#if BITS == 8
  const uint4 w = as_uint4(convert_uchar16(q));
  vstore4(w, 0, words + 4 * n);
#elif BITS == 4
  vstore2(as_uint2(pack4(q)), 0, words + 2 * n);
#elif BITS == 2
  words[n] = as_uint(pack2(q));
#else
  // Eight codes are BITS bytes; what is zero above them is overwritten by the next ones.
  const uint8 twos = as_uint8(q.even | q.odd << BITS);
  const uint4 fours = twos.even | twos.odd << (2 * BITS);
  const ulong2 eights = convert_ulong2(fours.even) | convert_ulong2(fours.odd) << (4 * BITS);
  uchar *bytes = (uchar *)words + n * 2 * BITS;
  vstore8(as_uchar8(eights.x), 0, bytes);
  vstore8(as_uchar8(eights.y), 0, bytes + BITS);
#endif
}
bool encode_group(const Block *x, int type, global uchar *codes, global uchar *scale,
                  global uchar *bias) {
  const float top = (float)((1 << BITS) - 1);
  float16 lows = x->v[0], highs = x->v[0];
  for (int n = 1; n < NV; ++n) {
    lows = SMALLER(x->v[n], lows);
    highs = LARGER(x->v[n], highs);
  }
  const float low = smallest_of(lows), high = largest_of(highs), range = high - low;
  if ((as_uint(range) & 0x7FFFFFFFu) >= (uint)INF_BITS) return false;
  float s = LARGER(range / top, 1e-7f), edge = low, b = 0.0f;
  if (!(fabs(low) > fabs(high))) {
    s = -s;
    edge = high;
  }
  const float q0 = even_1(edge / s);
  if (q0 != 0.0f) {
    s = edge / q0;
    b = edge;
  }
  uint words[UNIT * BITS / 32 + 2];
  EACH(n) {
    const float16 v = (x->v[n] - b) / s;
    const float16 above = v > 0.0f ? v : (float16)0.0f;
    put_codes(n, convert_int16(EVEN(above < top ? above : (float16)top)), words);
  }
  for (int i = 0; i < UNIT * BITS / 32; ++i) ((global uint *)codes)[i] = words[i];
  store(scale, type, s);
  store(bias, type, b);
  return true;
}
#endif
