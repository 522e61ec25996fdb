// SPDX-License-Identifier: Apache-2.0
// Formats whose blocks or groups stand alone: UNIT values become BYTES bytes of codes, a unit for each
// work-item.

// A tile is TILE units. Blocks go to `codes`, UNIT values to BYTES bytes; scales and biases, where
// the format has them, to arrays of x's dtype (MXFP4: bytes).
KERNEL void quantize(ulong first, ulong end, ulong units, ulong launch_first, int type, int flat,
                     int rank, long8 shape, long8 strides, long cols, int saturate, int rule,
                     global const uchar *x_all, long x_at, global uchar *codes_all, long codes_at,
                     global uchar *scales_all, long scales_at, global uchar *biases_all,
                     long biases_at, volatile global uint *flags) {
  global const uchar *x = x_all + x_at;
  global uchar *codes = codes_all + codes_at;
  FOR_TILES(t) {
    const ulong last = SMALLER((t + 1) * TILE, units);
    for (ulong u = t * TILE + get_local_id(0); u < last; u += GROUP) {
      const ulong i = u * UNIT;
      long at = (long)i;
      if (!flat) at = row_offset(i / (ulong)cols, rank, shape, strides) + (long)(i % (ulong)cols);
      global const uchar *from = x + at * (long)size_of(type);
      Block block;
      load_block(from, type, block.v);
      const uint place = (uint)(i - launch_first);
      if (top_bits(&block) >= INF_BITS &&
          !settle_nonfinite(&block, type, saturate, place, flags))
        continue;
#if FORMAT == 12
      const float amax = amax_of(&block);
      const int e = rule == FLOOR ? floor_exponent(amax) : rceil_exponent(rounded(amax / 6.0f, type));
      const float factor = power_of_2(127 - e);
      scales_all[scales_at + (long)u] = (uchar)e;
      EACH(n) vstore8(pack4(codes_of(block.v[n], factor)), n, codes + u * 16);
#else
#ifdef WITH_SCALES
      const long s = (long)(u * size_of(type));
      const bool fits = encode_group(&block, type, codes + u * BYTES, scales_all + scales_at + s,
                                     biases_all + biases_at + s);
#else
      const bool fits = encode(&block, type, rule, codes + u * BYTES);
#endif
      if (!fits) atomic_min(&flags[FLAG_OVERFLOW], place);
#endif
    }
  }
}
