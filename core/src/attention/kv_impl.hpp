// SPDX-License-Identifier: Apache-2.0
#pragma once
/// A cache's inside, shared by the files that make up KVCache.

#include <shared_mutex>

#include "attention/kv_planes.hpp"

namespace switchyard {

/// Pages that caches share. `mutex` guards all but the rows of pages: writers of rows own their
/// pages alone, and hold it shared so that the memory stays where it is.
struct KVPool {
  std::shared_mutex mutex;
  KVPlanes planes;                    ///< outer = page
  std::vector<std::uint32_t> owners;  ///< of each page; 0 = free
  std::vector<std::int32_t> free;

  /// A page with one owner, the pool having grown where it had to. Call with the mutex held alone.
  Result<std::int32_t> take(const KVGeometry &geometry, const KVCacheOptions &options);
  void drop(std::int32_t page) noexcept;
};

struct KVCache::Impl {
  Engine *engine = nullptr;  ///< reproducible
  KVCacheOptions options;    ///< value_dim filled in
  KVGeometry geometry;
  std::int64_t length = 0;
  std::int64_t dropped = 0;  ///< rotating: positions from `keep` on that are not in memory
  KVPlanes planes;           ///< contiguous and rotating: outer = sequence
  std::shared_ptr<KVPool> pool;
  std::vector<std::int32_t> pages;  ///< of a paged cache, in order

  ~Impl();
  Runner &runner() const;
  bool rotating() const noexcept { return options.kind == KVKind::rotating; }
  bool paged() const noexcept { return options.kind == KVKind::paged; }
  std::int64_t held() const noexcept { return length - dropped; }
  /// Rotating: tokens behind the kept ones that a query sees, its own included.
  std::int64_t window() const noexcept { return options.capacity - options.keep; }
  /// Rotating: the most new tokens for which there is always room.
  std::int64_t slack() const noexcept { return planes.slots() - options.capacity - options.rewind; }

  Status append(const TensorView &k, const TensorView &v);
  Status append_rows(const KVRows &rows, std::int64_t from, std::int64_t n);
  /// Rotating and contiguous: makes room for n more.
  Status make_room(std::int64_t n);
  /// Paged: pages for n more, the last one this cache's own.
  Status own_pages(std::int64_t n);
  void drop_pages(std::size_t keep) noexcept;
  Result<AttentionResult> attend(const TensorView &q, const AttentionCall &options) const;
  Result<AttentionResult> attend_rotating(const TensorView &q, const TensorView &k,
                                          const TensorView &v, const AttentionCall &options);
  /// The options of a call as the cache completes them, or what is wrong with them.
  Result<AttentionCall> complete(const TensorView &q, const AttentionCall &given) const;
  std::unique_ptr<Impl> empty_twin() const;
};

/// An engine like this one whose attention is reproducible.
Result<Engine *> reproducible(Engine &engine);
/// Options with every size checked and filled in.
Result<KVCacheOptions> checked_options(KVCacheOptions options);

}  // namespace switchyard
