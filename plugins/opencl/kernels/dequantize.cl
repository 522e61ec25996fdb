// SPDX-License-Identifier: Apache-2.0
// FORMAT (sy_quant_format) back to values, UNIT of them at a time: from BYTES bytes of a block, or
// from codes and scales. BITS: of a code of the affine formats.

float get_f16(global const uchar *p) { return f16_to_f32_1((ushort)(p[0] | p[1] << 8)); }

#if FORMAT == 1 || FORMAT == 2
void decode(global const uchar *b, float16 *y) {
  const float d = get_f16(b);
#if FORMAT == 1
  const int16 bytes = convert_int16(vload16(0, b + 2));
  y[0] = convert_float16((bytes & 15) - 8) * d;
  y[1] = convert_float16((bytes >> 4) - 8) * d;
#else
  const float m = get_f16(b + 2);
  const int16 bytes = convert_int16(vload16(0, b + 4));
  y[0] = convert_float16(bytes & 15) * d + m;
  y[1] = convert_float16(bytes >> 4) * d + m;
#endif
}
#elif FORMAT == 3 || FORMAT == 4
void decode(global const uchar *b, float16 *y) {
  const int head = FORMAT == 3 ? 2 : 4;
  const float d = get_f16(b);
  const int high = as_int(vload4(0, b + head));
  const int16 bytes = convert_int16(vload16(0, b + head + 4));
  const int16 lo = (bytes & 15) | (((int16)high >> LANES16) & 1) << 4;
  const int16 hi = (bytes >> 4) | (((int16)high >> (LANES16 + 16)) & 1) << 4;
#if FORMAT == 3
  y[0] = convert_float16(lo - 16) * d;
  y[1] = convert_float16(hi - 16) * d;
#else
  const float m = get_f16(b + 2);
  y[0] = convert_float16(lo) * d + m;
  y[1] = convert_float16(hi) * d + m;
#endif
}
#elif FORMAT == 5
void decode(global const uchar *b, float16 *y) {
  const float d = get_f16(b);
  EACH(n) y[n] = convert_float16(as_char16(vload16(n, b + 2))) * d;
}
#elif FORMAT == 6
void decode(global const uchar *b, float16 *y) {
  global const uchar *packed = b + 4;
  const float D = get_f16(b), M = get_f16(b + 2);
  for (int j = 0; j < 8; ++j) {
    const int s = j < 4 ? packed[j] & 63 : (packed[4 + j] & 15) | packed[j - 4] >> 6 << 4;
    const int m = j < 4 ? packed[4 + j] & 63 : packed[4 + j] >> 4 | packed[j] >> 6 << 4;
    const float d = D * (float)s, offset = M * (float)m;
    for (int h = 0; h < 2; ++h) {
      const int16 bytes = convert_int16(vload16(0, b + 16 + j / 2 * 32 + 16 * h));
      y[2 * j + h] = d * convert_float16((j & 1) == 0 ? bytes & 15 : bytes >> 4) - offset;
    }
  }
}
#elif FORMAT == 7
void decode(global const uchar *b, float16 *y) {
  const float D = get_f16(b + 208);
  EACH(n) {
    const int h = n / 8, part = n % 8 / 2, l = n % 2 * 16;
    const int16 bytes = convert_int16(vload16(0, b + 64 * h + 32 * (part % 2) + l));
    const int16 low = part < 2 ? bytes & 15 : bytes >> 4;
    const int16 high = convert_int16(vload16(0, b + 128 + 32 * h + l)) >> (2 * part) & 3;
    y[n] = D * (float)as_char(b[192 + n]) * convert_float16((low | high << 4) - 32);
  }
}
#elif FORMAT == 8
void decode(global const uchar *b, float16 *y) {
  const float d = get_f16(b + 52);
  const int powers[5] = {1, 3, 9, 27, 81};
  EACH(n) {
    int16 v;
    if (n < 10) {
      v = convert_int16(vload16(0, b + n % 2 * 16)) * powers[n / 2];
    } else if (n < 15) {
      v = convert_int16(vload16(0, b + 32)) * powers[n - 10];
    } else {
      const int4 w = convert_int4(vload4(0, b + 48));
      v = (int16)(w, w * 3, w * 9, w * 27);
    }
    y[n] = convert_float16(((v & 255) * 3 >> 8) - 1) * d;
  }
}
#elif FORMAT == 9
void decode(global const uchar *b, float16 *y) {
  const float d = get_f16(b + 64);
  EACH(n) {
    const int16 bytes = convert_int16(vload16(0, b + n / 8 * 32 + n % 2 * 16));
    y[n] = convert_float16((bytes >> (n % 8 / 2 * 2) & 3) - 1) * d;
  }
}
#elif FORMAT == 11 || FORMAT == 12
float power_of_2(int n) { return n == -127 ? 0x1p-127f : as_float((uint)(n + 127) << 23); }
float16 values_of(int16 code, int e) {
  if (e == 255) return as_float16((uint16)0x7FC00000u);
  const int16 c = code & 7;
  // From 2 on a code is the end of an exponent and the first bit of a mantissa.
  const float16 one = c < 2 ? convert_float16(c) * 0.5f : as_float16((c + 252) << 22);
  const float16 v = one * power_of_2(e - 127);
  return code > 8 ? -v : v;
}
#endif

// 16 codes of 2 bits from 4 bytes.
int16 codes2(uchar4 b) {
  const int4 v = convert_int4(b);
  const int16 each = (int16)((int4)v.x, (int4)v.y, (int4)v.z, (int4)v.w);
  return each >> ((LANES16 & 3) << 1) & 3;
}
// 16 codes of 4 bits from 8 bytes.
int16 codes4(uchar8 b) {
  const int8 v = convert_int8(b);
  int16 q;
  q.even = v & 15;
  q.odd = v >> 4;
  return q;
}

#if FORMAT == 10
void decode(global const uchar *b, float16 *y) {
  const float d = get_f16(b);
  EACH(n) y[n] = convert_float16(codes2(vload4(n, b + 2)) - 1) * d;
}
#elif FORMAT == 11
void decode(global const uchar *b, float16 *y) {
  const int16 bytes = convert_int16(vload16(0, b + 1));
  y[0] = values_of(bytes & 15, b[0]);
  y[1] = values_of(bytes >> 4, b[0]);
}
#endif

#ifdef BITS
// Codes 16n .. 16n + 15 of a unit.
int16 codes_at(global const uchar *p, int n) {
#if BITS == 8
  return convert_int16(vload16(n, p));
#elif BITS == 4
  return codes4(vload8(n, p));
#elif BITS == 2
  return codes2(vload4(n, p));
#else
  int plain[16];
  for (int i = 0; i < 16; ++i) {
    const int at = (16 * n + i) * BITS, byte = at / 8, shift = at % 8;
    uint v = p[byte];
    if (shift + BITS > 8) v |= (uint)p[byte + 1] << 8;
    plain[i] = (int)(v >> shift) & ((1 << BITS) - 1);
  }
  return vload16(0, plain);
#endif
}
#endif

// y's rows are contiguous; `part`: values that share a scale (of `scale_type`).
KERNEL void dequantize(ulong first, ulong end, ulong units, ulong total, ulong part, int type,
                       int flat, int stream, int rank, long8 shape, long8 strides, long cols,
                       int scale_type, global const uchar *codes_all, long codes_at_,
                       global const uchar *scales_all, long scales_at,
                       global const uchar *biases_all, long biases_at, global uchar *y_all,
                       long y_at) {
  global const uchar *codes = codes_all + codes_at_;
  global uchar *y = y_all + y_at;
  const uint size = size_of(type);
  FOR_TILES(t) {
    const ulong last = SMALLER((t + 1) * TILE, units);
    for (ulong u = t * TILE + get_local_id(0); u < last; u += GROUP) {
      const ulong i = u * UNIT;
      float16 v[NV];
#if FORMAT == 12
      const int e = scales_all[scales_at + (long)u];
      EACH(n) v[n] = values_of(codes4(vload8(n, codes + u * 16)), e);
#elif FORMAT == 66
      const float m = as_float(vload4(0, codes + total / 4));
      for (int h = 0; h < 2; ++h) {
        const int16 bytes = convert_int16(vload16(h, codes + u * 32));
        for (int n = 0; n < 4; ++n)
          v[2 * n + h] = convert_float16((bytes >> (6 - 2 * n) & 3) - 1) * m;
      }
#elif FORMAT == 64 || FORMAT == 80
      // The last unit may be short, and rows and parts may end anywhere.
      const uint left = (uint)SMALLER(total - i, (ulong)UNIT);
      if (left < UNIT || (i % part) + UNIT > part || (!flat && i % (ulong)cols + UNIT > (ulong)cols)) {
        for (uint k = 0; k < left; ++k) {
          const ulong j = i + k;
          const float s = load(scales_all + scales_at + (long)(j / part * 4), F32);
          const long at = flat ? (long)j
                               : row_offset(j / (ulong)cols, rank, shape, strides) +
                                     (long)(j % (ulong)cols);
          store(y + at * (long)size, type, (float)as_char(codes[j]) * s);
        }
        continue;
      }
      const float s = load(scales_all + scales_at + (long)(i / part * 4), F32);
      EACH(n) v[n] = convert_float16(as_char16(vload16(n, codes + i))) * s;
#elif defined(BITS)
      const long g = (long)(i / part) * (long)size_of(scale_type);
      const float s = load(scales_all + scales_at + g, scale_type);
      const float b = load(biases_all + biases_at + g, scale_type);
      EACH(n) {
        const float16 q = convert_float16(codes_at(codes + u * (UNIT * BITS / 8), n));
        v[n] = rounded16(rounded16(q * s, scale_type) + b, scale_type);
      }
#else
      decode(codes + u * BYTES, v);
#endif
      long at = (long)i;
      if (!flat) at = row_offset(i / (ulong)cols, rank, shape, strides) + (long)(i % (ulong)cols);
      store_block(y + at * (long)size, type, v, stream);
    }
  }
}
