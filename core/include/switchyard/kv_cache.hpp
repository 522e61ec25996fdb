// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Key-value caches: what a layer's attention remembers of earlier positions.
///
///     auto cache = switchyard::KVCache::create(engine, {.kv_heads = 8, .head_dim = 128});
///     auto out = cache->update(q, k, v);   // appends k and v, attends with the last q positions
///
/// A cache's meaning does not depend on how its tokens came: one by one or in chunks of any size,
/// before a rotating cache wraps and after, each query sees the same keys. Attention is causal, its
/// numerics always reproducible.

#include <atomic>
#include <memory>
#include <switchyard/attention.hpp>
#include <vector>

namespace switchyard {

enum class KVKind {
  contiguous,  ///< grows
  rotating,    ///< remembers the first `keep` tokens and the last capacity - keep
  paged        ///< grows by pages, which forks share until one of them writes
};

enum class KVFormat {
  plain,  ///< f32, f16 or bf16, as given
  q8,     ///< the blocks of `quantize`'s q8_0: 32 values share an f16 scale
  q4  ///< mlx_affine4: 64 values (32 where a dimension is no multiple of 64) share scale and bias
};

/// Counts the bytes of the caches that share it, and limits them. [any-thread]
class SY_API KVBudget {
 public:
  explicit KVBudget(std::uint64_t cap = 0) noexcept : cap_(cap) {}  ///< 0 = no limit
  std::uint64_t cap() const noexcept { return cap_; }
  std::uint64_t used() const noexcept { return used_.load(std::memory_order_relaxed); }
  std::uint64_t peak() const noexcept { return peak_.load(std::memory_order_relaxed); }
  /// Takes bytes, or says no and takes none.
  bool take(std::uint64_t bytes) noexcept;
  void give_back(std::uint64_t bytes) noexcept;

 private:
  const std::uint64_t cap_;
  std::atomic<std::uint64_t> used_{0}, peak_{0};
};

struct KVCacheOptions {
  KVKind kind = KVKind::contiguous;
  KVFormat format = KVFormat::plain;
  DType dtype = dtypes::f32;  ///< of k and v when they are appended: f32, f16 or bf16
  std::int64_t batch = 1;  ///< 1 for paged caches: fork() and attend_all() serve several sequences
  std::int64_t kv_heads = 1, head_dim = 64, value_dim = 0;  ///< value_dim 0 = head_dim
  /// Rotating: how many tokens a query sees at most, its own included; must be given. Else: tokens
  /// to make room for at once.
  std::int64_t capacity = 0;
  std::int64_t keep = 0;        ///< rotating: first tokens that stay; below capacity
  std::int64_t rewind = 0;      ///< rotating: how far `trim` can go back after the wrap
  std::int64_t page_size = 64;  ///< paged: tokens in a page
  std::shared_ptr<KVBudget> budget{};
};

struct KVMemory {
  std::uint64_t reserved = 0;  ///< allocated; of a paged cache: by its whole pool
  std::uint64_t used = 0;      ///< by the tokens held, pages counted whole
  std::uint64_t shared = 0;    ///< part of `used` that a fork holds too
  std::uint64_t per_token = 0;
};

/// [one thread at a time; caches that share pages or a budget may be used by different threads]
/// Keep the engine alive. Tensors: q [B, Hq, Lq, Dk], k [B, Hkv, n, Dk], v [B, Hkv, n, Dv], any
/// strides; q's dtype is the cache's, or any of the three where keys are quantised.
class SY_API KVCache {
 public:
  static Result<KVCache> create(Engine &engine, const KVCacheOptions &options);
  KVCache(KVCache &&) noexcept;
  KVCache &operator=(KVCache &&) noexcept;
  ~KVCache();

  const KVCacheOptions &options() const noexcept;
  std::int64_t length() const noexcept;     ///< tokens appended and not trimmed: the next position
  std::int64_t held() const noexcept;       ///< of them in memory
  std::int64_t trimmable() const noexcept;  ///< how many the next `trim` may take

  /// Remembers n more positions. Quantised caches refuse NaN and infinities (nonfinite). After an
  /// error the cache is as before.
  Status append(const TensorView &k, const TensorView &v);
  /// Attends with q at the last Lq positions. Of the options, causal may not be top_left, and
  /// kv_lengths, block_table and keep are the cache's; a mask [.., Lq, length] needs a cache that
  /// is not rotating. A rotating cache no longer holds what earlier positions saw: use `update`.
  Result<AttentionResult> attend(const TensorView &q, const AttentionCall &options = {});
  /// append, then attend with the last Lq <= n of the new positions. After an error in the
  /// arguments the cache is as before; after one of a kernel too, unless a rotating cache had to
  /// drop tokens.
  Result<AttentionResult> update(const TensorView &q, const TensorView &k, const TensorView &v,
                                 const AttentionCall &options = {});
  /// Attends for one sequence each: q [N, Hq, Lq, Dk], at the last Lq positions of N paged caches
  /// that share their pages. Their lengths may differ.
  static Result<AttentionResult> attend_all(const std::vector<KVCache *> &caches,
                                            const TensorView &q, const AttentionCall &options = {});

  /// Forgets the last n positions: what follows is as if they had never been. Fails with
  /// invalid_argument beyond what `trimmable` says, unless all but kept tokens are forgotten.
  Status trim(std::int64_t n);
  void clear();
  Result<KVCache> copy() const;
  /// A paged cache that shares this one's pages (each side copies a page before it writes there);
  /// other kinds are copied.
  Result<KVCache> fork() const;
  /// An empty cache over the same pages; paged caches only.
  Result<KVCache> sibling() const;

  /// Tokens begin..begin+count-1 of those held, in order, as f32 where they are quantised:
  /// [B, Hkv, count, D].
  Result<std::pair<Tensor, Tensor>> read(std::int64_t begin, std::int64_t count) const;
  KVMemory memory() const;

  /// Replaces the file in one step. `key` says what the tokens are (a model and its prompt, say).
  Status save(const std::string &path, const std::string &key = {}) const;
  /// Refused, saying why: other options than `expected` (capacity and budget of caches that grow
  /// aside), another key, a damaged or cut file.
  static Result<KVCache> load(Engine &engine, const std::string &path,
                              const KVCacheOptions &expected, const std::string &key = {});

  struct Impl;

 private:
  explicit KVCache(std::unique_ptr<Impl> impl) noexcept;
  std::unique_ptr<Impl> impl_;
};

SY_API std::string_view to_string(KVKind kind) noexcept;
SY_API std::string_view to_string(KVFormat format) noexcept;
SY_API Result<KVKind> parse_kv_kind(std::string_view name);
SY_API Result<KVFormat> parse_kv_format(std::string_view name);

}  // namespace switchyard
