// SPDX-License-Identifier: Apache-2.0
// Attention with an online softmax. A tile is W rows of one key head - query positions times the
// heads that share it, heads first - over a range of keys. Rows lie in the lanes of a vector; on a
// device without such vectors a work-item has one row (W = 1). Keys are taken KEYS at a time.
// FEW: fewer rows than lanes: products go along a head's elements instead, row by row.
// MOST: room for a head's elements. SOFTCAP: there is one (its tanh is long).
// PAGED: keys lie in pages. QUANT: they are quantised, 1 as q8_0, 2 as mlx_affine4.

#define NONE -1000000000000L

#if W == 16
typedef float16 vec;
typedef int16 ivec;
#define LOAD(p) vload16(0, p)
#define STORE(v, p) vstore16(v, 0, p)
#define AS_INT(v) as_int16(v)
#define AS_VEC(v) as_float16(v)
#define TO_INT(v) convert_int16(v)
#elif W == 8
typedef float8 vec;
typedef int8 ivec;
#define LOAD(p) vload8(0, p)
#define STORE(v, p) vstore8(v, 0, p)
#define AS_INT(v) as_int8(v)
#define AS_VEC(v) as_float8(v)
#define TO_INT(v) convert_int8(v)
#else
typedef float vec;
typedef int ivec;
#define LOAD(p) (*(p))
#define STORE(v, p) (*(p) = (v))
#define AS_INT(v) as_int(v)
#define AS_VEC(v) as_float(v)
#define TO_INT(v) convert_int(v)
#endif

typedef struct {
  long base, batch, head, row, element;  // bytes to the first element; strides in elements
} Place;

// exp for x <= 0, -infinity included: 2^n times a polynomial on [-ln 2 / 2, ln 2 / 2].
vec exp_of(vec x) {
  const vec c = x > -87.0f ? x : (vec)-87.0f;
  const vec n = EVEN(c * 1.44269504f);
  vec r = fma(n, (vec)-0.693145752f, c);
  r = fma(n, (vec)-1.42860677e-6f, r);
  vec p = fma(r, (vec)1.98412698e-4f, (vec)1.38888889e-3f);
  p = fma(p, r, (vec)8.33333333e-3f);
  p = fma(p, r, (vec)4.16666667e-2f);
  p = fma(p, r, (vec)1.66666667e-1f);
  p = fma(p, r, (vec)0.5f);
  p = fma(p, r, (vec)1.0f);
  p = fma(p, r, (vec)1.0f);
  const vec y = AS_VEC(AS_INT(p) + (TO_INT(n) << 23));
  return x > -87.0f ? y : (vec)0.0f;
}

// A row of `count` elements as f32, zeros after them up to a multiple of 16.
void load_row(global const uchar *p, long stride, int type, int count, float *to) {
  const long size = size_of(type);
  int e = 0;
  if (stride == 1)
    for (; e + 16 <= count; e += 16) vstore16(load16(p + e * size, type), 0, to + e);
  for (; e < count; ++e) to[e] = load(p + e * stride * size, type);
  for (; (e & 15) != 0; ++e) to[e] = 0.0f;
}

#if QUANT == 1
void load_q8_0(global const uchar *p, int count, float *to) {
  for (int e = 0; e < count; e += 32, p += 34) {
    const float scale = f16_to_f32_1((ushort)(p[0] | p[1] << 8));
    global const char *codes = (global const char *)(p + 2);
    vstore16(convert_float16(vload16(0, codes)) * scale, 0, to + e);
    vstore16(convert_float16(vload16(1, codes)) * scale, 0, to + e + 16);
  }
}
#elif QUANT == 2
void load_affine(global const uchar *p, global const uchar *scales, global const uchar *biases,
                 int type, int group, int count, float *to) {
  for (int e = 0; e < count; e += 16) {
    const uchar8 pairs = vload8(0, p + e / 2);
    uchar16 codes;
    codes.even = pairs & (uchar)15;
    codes.odd = pairs >> (uchar)4;
    const long at = e / group * (long)size_of(type);
    const float scale = load(scales + at, type), bias = load(biases + at, type);
    const float16 product = rounded16(convert_float16(codes) * scale, type);
    vstore16(rounded16(product + bias, type), 0, to + e);
  }
}
#endif

// Keys or values: where their rows are, and what belongs to them.
typedef struct {
  global const uchar *rows;
  long batch, head, key, element;
#if QUANT == 2
  global const uchar *scales, *biases;
  long3 scale_strides, bias_strides;
  int scale_type, group;
#endif
#ifdef PAGED
  global const uchar *table;
  long table_batch, table_slot, pages, page;
#endif
} Keys;

// Row j of key head g as f32, zeros after it up to a multiple of 16.
void load_key(const Keys *keys, long b, long g, long j, int type, int count, float *to) {
#ifdef PAGED
  const int page = *(global const int *)(keys->table +
                                         (b * keys->table_batch + j / keys->page * keys->table_slot) * 4);
  b = page < 0 || page >= keys->pages ? 0 : page;
  j %= keys->page;
#endif
  const long row = b * keys->batch + g * keys->head + j * keys->key;
#if QUANT == 1
  load_q8_0(keys->rows + row, count, to);
#elif QUANT == 2
  const long size = size_of(keys->scale_type);
  const long3 place = (long3)(b, g, j), s = place * keys->scale_strides,
              t = place * keys->bias_strides;
  load_affine(keys->rows + row * 4, keys->scales + (s.x + s.y + s.z) * size,
              keys->biases + (t.x + t.y + t.z) * size, keys->scale_type, keys->group, count, to);
#else
  load_row(keys->rows + row * (long)size_of(type), keys->element, type, count, to);
#endif
}

// Element e of the lane's row in a tile's queries and results.
#ifdef FEW
#define AT(e, lane) ((lane) * MOST + (e))
#else
#define AT(e, lane) ((e) * W + (lane))
#endif

// Where a query row stands: its head, its place among the keys.
typedef struct {
  long h, i, at;
} Row;

Row row_of(long r, long group, long g, long lq, long keys, int causal) {
  Row row;
  row.i = r / group;
  row.h = g * group + r % group;
  row.at = causal == 1 ? row.i : row.i + keys - lq;
  return row;
}

#define PADDED(n) (((n) + 15) & ~15)
// Of a tile's weighted values. Partial results of one: maximum, sum, poison, then those.
#ifdef FEW
#define ROOM(dv) (MOST * W)
#else
#define ROOM(dv) ((dv) * W)
#endif
#define PARTIAL(dv) (3 * W + (long)ROOM(dv))

void write_rows(vec m, vec l, vec bad, const float *o, long r0, long rows, long b, long g, long lq,
                long group, int dv, int type, global uchar *out, long8 o_strides,
                int has_lse, global uchar *lse, long8 lse_strides, int has_sinks,
                global const uchar *sinks, long sink_stride) {
  float ms[W], ls[W], bads[W];
  STORE(m, ms);
  STORE(l, ls);
  STORE(bad, bads);
  for (int lane = 0; lane < W; ++lane) {
    if (r0 + lane >= rows) break;
    const Row row = row_of(r0 + lane, group, g, lq, 0, 1);
    float most = ms[lane], sum = ls[lane], factor = 1.0f;
    bool poisoned = bads[lane] != 0.0f;
    const bool nothing = most == -INFINITY && !poisoned;
    if (has_sinks) {
      const float sink = load(sinks + row.h * sink_stride * 4, F32);
      poisoned = poisoned || (!nothing && (isnan(sink) || sink == INFINITY));
      if (nothing) {
        most = sink;
      } else {
        const float larger = sink > most ? sink : most;
        factor = most == -INFINITY ? 0.0f : exp(most - larger);
        sum = sum * factor + (sink == -INFINITY ? 0.0f : exp(sink - larger));
        most = larger;
      }
    }
    global uchar *to = out + (b * o_strides.s0 + row.h * o_strides.s1 + row.i * o_strides.s2) *
                                 (long)size_of(type);
    const float scale = factor / sum;
    for (int e = 0; e < dv; ++e) {
      const float x = poisoned ? NAN : nothing ? 0.0f : o[AT(e, lane)] * scale;
      store(to + e * o_strides.s3 * (long)size_of(type), type, x);
    }
    if (has_lse)
      store(lse + (b * lse_strides.s0 + row.h * lse_strides.s1 + row.i * lse_strides.s2) * 4, F32,
            poisoned ? NAN : nothing ? most : most + log(sum));
  }
}

KERNEL void attend(ulong first, ulong end, ulong all_tiles, long lq, long lkv, int dk, int dv,
                   long group, long heads, long row_tiles, long splits, long split_keys, int type,
                   int causal, long left, long right, long keep_keys, long gap, float scale,
                   float softcap,
                   global const uchar *q_all, long q_at, long8 q_strides,
                   global const uchar *k_all, long k_at, long8 k_strides,
                   global const uchar *v_all, long v_at, long8 v_strides,
                   int mask_type,  // -1: none, 3: bool
                   global const uchar *mask_all, long mask_at, long8 mask_strides,
                   int has_sinks, global const uchar *sinks, long sinks_at, long sink_stride,
                   int has_alibi, global const uchar *alibi, long alibi_at, long alibi_stride,
                   int has_lengths, global const uchar *lengths, long lengths_at,
                   long length_stride, global uchar *o_all, long o_at, long8 o_strides,
                   int has_lse, global uchar *lse_all, long lse_at, long8 lse_strides,
                   global float *partials
#ifdef PAGED
                   , global const uchar *table, long table_at, long table_batch, long table_slot,
                   long pages, long page
#endif
#if QUANT == 2
                   , int scale_type, int scale_group,
                   global const uchar *k_scales, long k_scales_at, long8 k_scale_strides,
                   global const uchar *k_biases, long k_biases_at, long8 k_bias_strides,
                   global const uchar *v_scales, long v_scales_at, long8 v_scale_strides,
                   global const uchar *v_biases, long v_biases_at, long8 v_bias_strides
#endif
) {
  const long size = size_of(type), rows = group * lq;
  Keys k, v;
  k.rows = k_all + k_at;
  v.rows = v_all + v_at;
  k.batch = k_strides.s0, k.head = k_strides.s1, k.key = k_strides.s2, k.element = k_strides.s3;
  v.batch = v_strides.s0, v.head = v_strides.s1, v.key = v_strides.s2, v.element = v_strides.s3;
#if QUANT == 2
  k.scale_type = v.scale_type = scale_type;
  k.group = v.group = scale_group;
  k.scales = k_scales + k_scales_at;
  k.biases = k_biases + k_biases_at;
  v.scales = v_scales + v_scales_at;
  v.biases = v_biases + v_biases_at;
  k.scale_strides = k_scale_strides.s012;
  k.bias_strides = k_bias_strides.s012;
  v.scale_strides = v_scale_strides.s012;
  v.bias_strides = v_bias_strides.s012;
#endif
#ifdef PAGED
  k.table = v.table = table + table_at;
  k.table_batch = v.table_batch = table_batch;
  k.table_slot = v.table_slot = table_slot;
  k.pages = v.pages = pages;
  k.page = v.page = page;
#endif
  float q[MOST * W], o[MOST * W], block[KEYS * MOST];
  FOR_TILES(tile_group) {
    const ulong tile = tile_group * GROUP + get_local_id(0);
    if (tile >= all_tiles) continue;
    const long split = (long)(tile % (ulong)splits);
    long rest = (long)(tile / (ulong)splits);
    const long r0 = (row_tiles - 1 - rest % row_tiles) * W;  // the longest rows first
    rest /= row_tiles;
    const long g = rest % heads, b = rest / heads;
    const int lanes = (int)SMALLER(rows - r0, (long)W);
    const long keys =
        has_lengths ? (long)*(global const int *)(lengths + lengths_at + b * length_stride * 4)
                    : lkv;

    long at_least = 0, at_most = 0;
    long at[W], mask_row[W];
    float slope[W];
    for (int lane = 0; lane < W; ++lane) {
      const long r = SMALLER(r0 + lane, rows - 1);
      const Row row = row_of(r, group, g, lq, keys, causal);
      at[lane] = row.at;
      at_least = lane == 0 ? row.at : SMALLER(at_least, row.at);
      at_most = lane == 0 ? row.at : LARGER(at_most, row.at);
      slope[lane] = has_alibi ? load(alibi + alibi_at + row.h * alibi_stride * 4, F32) : 0.0f;
      mask_row[lane] = b * mask_strides.s0 + row.h * mask_strides.s1 + row.i * mask_strides.s2;
      float one[MOST];
      load_row(q_all + q_at +
                   (b * q_strides.s0 + row.h * q_strides.s1 + row.i * q_strides.s2) * size,
               q_strides.s3, type, dk, one);
      for (int e = 0; e < PADDED(dk); ++e) q[AT(e, lane)] = one[e];
    }
    for (int e = 0; e < ROOM(dv); ++e) o[e] = 0.0f;

    // Keys that some row may see, within this split.
    long j_end = SMALLER(keys, (split + 1) * split_keys), j0 = split * split_keys;
    if (causal != 0) j_end = SMALLER(j_end, at_most + 1);
    if (right >= 0 && right < lkv + lq) j_end = SMALLER(j_end, at_most + right + 1);
    // Before `from` only kept keys are seen.
    const long from = left >= 0 && left < lkv + lq ? (at_least - left) / KEYS * KEYS : 0;
    if (j0 >= keep_keys) j0 = LARGER(j0, from);
    vec m = -INFINITY, l = 0.0f, bad = 0.0f;
    for (; j0 < j_end; j0 += KEYS) {
      if (j0 >= keep_keys && j0 < from) j0 = from;
      if (j0 >= j_end) break;
      const int n = (int)SMALLER(j_end - j0, (long)KEYS);
      // What is added to the scores; -infinity hides. Blocks that nobody sees are skipped.
      const bool inside = n == KEYS && (causal == 0 || j0 + KEYS - 1 <= at_least) &&
                          (right < 0 || j0 + KEYS - 1 - at_least <= right) &&
                          (left < 0 || at_most - j0 <= left || j0 + KEYS <= keep_keys);
      const bool plain = inside && mask_type < 0 && !has_alibi;
      float bias[KEYS * W];
      bool hidden = false, seen = plain;
      if (!plain) {
        for (int y = 0; y < KEYS; ++y)
          for (int lane = 0; lane < W; ++lane) {
            const long j = j0 + y, p = at[lane];
            bool shown = y < n;
            if (causal != 0) shown = shown && j <= p;
            if (left >= 0) shown = shown && (p - j <= left || j < keep_keys);
            if (right >= 0) shown = shown && j - p <= right;
            float add = 0.0f;
            if (shown && mask_type >= 0) {
              const long place = mask_row[lane] + j * mask_strides.s3;
              if (mask_type == 3)
                add = mask_all[mask_at + place] != 0 ? 0.0f : -INFINITY;
              else
                add = load(mask_all + mask_at + place * (long)size_of(mask_type), mask_type);
              shown = add != -INFINITY;
            }
            if (has_alibi) add += slope[lane] * (float)(j - p - (j < keep_keys ? gap : 0));
            bias[y * W + lane] = shown ? add : -INFINITY;
            seen = seen || shown;
            hidden = hidden || !shown;
          }
      }
      if (!seen) continue;

      for (int y = 0; y < KEYS; ++y) {
        if (y < n)
          load_key(&k, b, g, j0 + y, type, dk, block + y * MOST);
        else
          for (int e = 0; e < PADDED(dk); ++e) block[y * MOST + e] = 0.0f;
      }
      vec s[KEYS];
#ifdef FEW
      float products[KEYS * W];
      for (int lane = 0; lane < lanes; ++lane) {
        float16 sums[KEYS];
#pragma unroll
        for (int y = 0; y < KEYS; ++y) sums[y] = 0.0f;
        for (int e = 0; e < dk; e += 16) {
          const float16 x = vload16(0, q + AT(e, lane));
#pragma unroll
          for (int y = 0; y < KEYS; ++y)
            sums[y] = fma(x, vload16(0, block + y * MOST + e), sums[y]);
        }
#pragma unroll
        for (int y = 0; y < KEYS; ++y) products[y * W + lane] = sum_of(sums[y]);
      }
      for (int lane = lanes; lane < W; ++lane)
        for (int y = 0; y < KEYS; ++y) products[y * W + lane] = 0.0f;
#pragma unroll
      for (int y = 0; y < KEYS; ++y) s[y] = LOAD(products + y * W);
#else
#pragma unroll
      for (int y = 0; y < KEYS; ++y) s[y] = 0.0f;
      for (int e = 0; e < dk; ++e) {
        const vec x = LOAD(q + e * W);
#pragma unroll
        for (int y = 0; y < KEYS; ++y) s[y] = fma(x, (vec)block[y * MOST + e], s[y]);
      }
#endif
      vec most = m;
#pragma unroll
      for (int y = 0; y < KEYS; ++y) {
        s[y] *= scale;
#ifdef SOFTCAP
        s[y] = softcap * tanh(s[y] / softcap);
#endif
        if (!plain) {
          const vec add = LOAD(bias + y * W);
          s[y] = add == -INFINITY ? (vec)-INFINITY : s[y] + add;
        }
        bad = s[y] < INFINITY ? bad : (vec)1.0f;
        most = s[y] > most ? s[y] : most;
      }
      // Rows that have seen nothing yet must not compute infinity minus infinity.
      const vec base = most == -INFINITY ? (vec)0.0f : most;
      const vec keep = exp_of(m - base);
      m = most;
      vec sum = 0.0f;
#pragma unroll
      for (int y = 0; y < KEYS; ++y) {
        s[y] = exp_of(s[y] - base);
        sum += s[y];
      }
      l = l * keep + sum;
      for (int y = 0; y < KEYS; ++y) {
        if (y < n)
          load_key(&v, b, g, j0 + y, type, dv, block + y * MOST);
        else
          for (int e = 0; e < PADDED(dv); ++e) block[y * MOST + e] = 0.0f;
      }
#ifdef FEW
      float keeps[W];
      STORE(keep, keeps);
#pragma unroll
      for (int y = 0; y < KEYS; ++y) STORE(s[y], products + y * W);
      for (int lane = 0; lane < lanes; ++lane)
        for (int e = 0; e < dv; e += 16) {
          float16 a = vload16(0, o + AT(e, lane)) * keeps[lane];
#pragma unroll
          for (int y = 0; y < KEYS; ++y)
            a = fma((float16)products[y * W + lane], vload16(0, block + y * MOST + e), a);
          vstore16(a, 0, o + AT(e, lane));
        }
#else
      for (int e = 0; e < dv; ++e) {
        vec a = LOAD(o + e * W) * keep;
#pragma unroll
        for (int y = 0; y < KEYS; ++y) a = fma(s[y], (vec)block[y * MOST + e], a);
        STORE(a, o + e * W);
      }
#endif
    }

    if (splits == 1) {
      write_rows(m, l, bad, o, r0, rows, b, g, lq, group, dv, type, o_all + o_at, o_strides,
                 has_lse, lse_all + lse_at, lse_strides, has_sinks, sinks + sinks_at, sink_stride);
      continue;
    }
    global float *mine = partials + (long)tile * PARTIAL(dv);
    STORE(m, mine);
    STORE(l, mine + W);
    STORE(bad, mine + 2 * W);
    for (int e = 0; e < ROOM(dv); ++e) mine[3 * W + e] = o[e];
  }
}

// Joins the splits of each tile in ascending order.
KERNEL void merge(ulong first, ulong end, ulong all_tiles, long lq, int dv, long group, long heads,
                  long row_tiles, long splits, int type, int has_sinks, global const uchar *sinks,
                  long sinks_at, long sink_stride, global uchar *o_all, long o_at, long8 o_strides,
                  int has_lse, global uchar *lse_all, long lse_at, long8 lse_strides,
                  global const float *partials) {
  float o[MOST * W];
  FOR_TILES(tile_group) {
    const ulong tile = tile_group * GROUP + get_local_id(0);
    if (tile >= all_tiles) continue;
    const long r0 = (row_tiles - 1 - (long)(tile % (ulong)row_tiles)) * W;
    const long rest = (long)(tile / (ulong)row_tiles), g = rest % heads, b = rest / heads;
    global const float *from = partials + (long)tile * splits * PARTIAL(dv);
    vec m = -INFINITY, l = 0.0f, bad = 0.0f;
    for (int e = 0; e < ROOM(dv); ++e) o[e] = 0.0f;
    for (long s = 0; s < splits; ++s, from += PARTIAL(dv)) {
      const vec other = LOAD(from);
      const vec most = other > m ? other : m;
      const vec base = most == -INFINITY ? (vec)0.0f : most;
      const vec keep = exp_of(m - base), take = exp_of(other - base);
      m = most;
      l = l * keep + LOAD(from + W) * take;
      bad += LOAD(from + 2 * W);
#ifdef FEW
      float keeps[W], takes[W];
      STORE(keep, keeps);
      STORE(take, takes);
      for (int lane = 0; lane < W; ++lane)
        for (int e = 0; e < dv; e += 16) {
          const float16 a = vload16(0, o + AT(e, lane)) * keeps[lane] +
                            vload16(0, from + 3 * W + AT(e, lane)) * takes[lane];
          vstore16(a, 0, o + AT(e, lane));
        }
#else
      for (int e = 0; e < dv; ++e) {
        const vec a = LOAD(o + e * W) * keep + LOAD(from + (3 + e) * W) * take;
        STORE(a, o + e * W);
      }
#endif
    }
    write_rows(m, l, bad, o, r0, group * lq, b, g, lq, group, dv, type, o_all + o_at, o_strides,
               has_lse, lse_all + lse_at, lse_strides, has_sinks, sinks + sinks_at, sink_stride);
  }
}
