// SPDX-License-Identifier: Apache-2.0
/// Pages and who owns them: growth, copy on write, forks, attention over several sequences; copies
/// and contents of caches of every kind.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "attention/kv_impl.hpp"
#include "host/float_state.hpp"
#include "quantize/quantize.hpp"

namespace switchyard {

Result<std::int32_t> KVPool::take(const KVGeometry &geometry, const KVCacheOptions &options) {
  if (free.empty()) {
    const std::int64_t old = planes.outer(), wish = std::max<std::int64_t>(4, old * 3 / 2);
    auto grown = KVPlanes::make(geometry, wish, options.page_size, options.budget);
    if (!grown && wish > old + 1)
      grown = KVPlanes::make(geometry, old + 1, options.page_size, options.budget);
    if (!grown) return tl::unexpected(grown.error());
    for (std::int64_t page = 0; page < old; ++page)
      grown->copy(planes, page, 0, options.page_size, page, 0);
    owners.resize(static_cast<std::size_t>(grown->outer()));
    for (std::int64_t page = grown->outer(); page > old; --page)
      free.push_back(static_cast<std::int32_t>(page - 1));
    planes = std::move(*grown);
  }
  const std::int32_t page = free.back();
  free.pop_back();
  owners[static_cast<std::size_t>(page)] = 1;
  return page;
}

void KVPool::drop(std::int32_t page) noexcept {
  // `free` has had room for every page since it was made.
  if (--owners[static_cast<std::size_t>(page)] == 0) free.push_back(page);
}

void KVCache::Impl::drop_pages(std::size_t keep) noexcept {
  if (!pool || pages.size() <= keep) return;
  const std::lock_guard lock(pool->mutex);
  for (std::size_t i = keep; i < pages.size(); ++i) pool->drop(pages[i]);
  pages.resize(keep);
}

Status KVCache::Impl::own_pages(std::int64_t n) {
  const std::int64_t size = options.page_size, used = length % size;
  const auto need = static_cast<std::size_t>((length + n + size - 1) / size);
  const std::size_t before = pages.size();
  pages.reserve(need);
  Status done;
  {
    const std::lock_guard lock(pool->mutex);
    // A fork may hold the page that is written next.
    if (used > 0 && n > 0 && pool->owners[static_cast<std::size_t>(pages.back())] > 1) {
      auto mine = pool->take(geometry, options);
      if (!mine) return tl::unexpected(mine.error());
      pool->planes.copy(pool->planes, pages.back(), 0, used, *mine, 0);
      pool->drop(pages.back());
      pages.back() = *mine;
    }
    while (pages.size() < need && done) {
      auto page = pool->take(geometry, options);
      if (page)
        pages.push_back(*page);
      else
        done = tl::unexpected(page.error());
    }
  }
  if (!done) drop_pages(before);
  return done;
}

Result<KVCache> KVCache::sibling() const {
  if (!impl_->paged()) return fail(ErrorCode::invalid_argument, "only paged caches have siblings");
  auto twin = impl_->empty_twin();
  twin->pool = impl_->pool;
  return KVCache(std::move(twin));
}

Result<KVCache> KVCache::fork() const {
  if (!impl_->paged()) return copy();
  auto twin = impl_->empty_twin();
  twin->pool = impl_->pool;
  const std::lock_guard lock(impl_->pool->mutex);
  twin->pages = impl_->pages;
  twin->length = impl_->length;
  for (const std::int32_t page : twin->pages) ++impl_->pool->owners[static_cast<std::size_t>(page)];
  return KVCache(std::move(twin));
}

Result<KVCache> KVCache::copy() const {
  auto twin = impl_->empty_twin();
  if (impl_->paged()) {
    twin->pool = impl_->pool;
    if (auto ok = twin->own_pages(impl_->length); !ok) return tl::unexpected(ok.error());
    const std::lock_guard lock(impl_->pool->mutex);
    KVPlanes &planes = impl_->pool->planes;
    for (std::size_t i = 0; i < impl_->pages.size(); ++i)
      planes.copy(planes, impl_->pages[i], 0, impl_->options.page_size, twin->pages[i], 0);
  } else if (impl_->planes.count() > 0) {
    auto planes = KVPlanes::make(impl_->geometry, impl_->options.batch, impl_->planes.slots(),
                                 impl_->options.budget);
    if (!planes) return tl::unexpected(planes.error());
    for (std::int64_t b = 0; b < impl_->options.batch; ++b)
      planes->copy(impl_->planes, b, 0, impl_->held(), b, 0);
    twin->planes = std::move(*planes);
  }
  twin->length = impl_->length;
  twin->dropped = impl_->dropped;
  return KVCache(std::move(twin));
}

Result<AttentionResult> KVCache::attend_all(const std::vector<KVCache *> &caches,
                                            const TensorView &q, const AttentionCall &given) {
  const FloatStateGuard state;
  if (caches.empty() || q.rank() != 4 || q.dim(0) != static_cast<std::int64_t>(caches.size()))
    return fail(ErrorCode::shape, fmt::format("q has shape {}; it must be [{}, heads, length, "
                                              "head_dim], a sequence for each cache",
                                              shape_text(q.shape()), caches.size()));
  const Impl &first = *caches.front()->impl_;
  std::size_t most = 0;
  for (const KVCache *c : caches) {
    if (c->impl_->pool == nullptr || c->impl_->pool != first.pool)
      return fail(ErrorCode::invalid_argument,
                  "the caches must be paged and share their pages (fork, sibling)");
    if (q.dim(2) > c->length())
      return fail(
          ErrorCode::shape,
          fmt::format("{} queries are the last positions of a cache of {}", q.dim(2), c->length()));
    most = std::max(most, c->impl_->pages.size());
  }
  auto o = first.complete(q, given);
  if (!o) return tl::unexpected(o.error());
  std::vector<std::int32_t> table(caches.size() * most, -1), lengths;
  for (std::size_t i = 0; i < caches.size(); ++i) {
    const Impl &c = *caches[i]->impl_;
    std::ranges::copy(c.pages, table.begin() + static_cast<std::ptrdiff_t>(i * most));
    lengths.push_back(static_cast<std::int32_t>(c.length));
  }
  const auto n = static_cast<std::int64_t>(caches.size());
  o->kv_lengths = TensorView(static_cast<const void *>(lengths.data()), dtypes::i32, std::array{n});
  o->block_table = TensorView(static_cast<const void *>(table.data()), dtypes::i32,
                              std::array{n, static_cast<std::int64_t>(most)});
  const std::shared_lock lock(first.pool->mutex);
  const KVPlanes &planes = first.pool->planes;
  return attention(first.runner(), q, planes.plane(KVGeometry::keys),
                   planes.plane(KVGeometry::values), *o,
                   stored_keys(first.geometry, planes, first.options.page_size));
}

Result<std::pair<Tensor, Tensor>> KVCache::read(std::int64_t begin, std::int64_t count) const {
  const FloatStateGuard state;
  const Impl &c = *impl_;
  const KVCacheOptions &o = c.options;
  if (begin < 0 || count < 0 || begin > c.held() - count)
    return fail(ErrorCode::invalid_argument, fmt::format("tokens {} to {} of a cache that holds {}",
                                                         begin, begin + count, c.held()));
  std::vector<Tensor> rows;
  for (const auto &plane : c.geometry.planes) {
    auto t = Tensor::empty(plane.dtype, std::array{o.batch, o.kv_heads, count, plane.elements});
    if (!t) return tl::unexpected(t.error());
    rows.push_back(std::move(*t));
  }
  {
    std::shared_lock<std::shared_mutex> lock;
    if (c.paged()) lock = std::shared_lock(c.pool->mutex);
    for (std::size_t i = 0; i < rows.size() && count > 0; ++i) {
      const std::size_t bytes = c.geometry.planes[i].row_bytes();
      std::byte *to = rows[i].data<std::byte>();
      for (std::int64_t b = 0; b < o.batch; ++b)
        for (std::int64_t h = 0; h < o.kv_heads; ++h)
          for (std::int64_t j = begin; j < begin + count; ++j, to += bytes)
            std::memcpy(to,
                        c.paged() ? c.pool->planes.row(
                                        i, c.pages[static_cast<std::size_t>(j / o.page_size)], h,
                                        j % o.page_size)
                                  : c.planes.row(i, b, h, j),
                        bytes);
    }
  }
  if (c.geometry.format == SY_QUANT_NONE || count == 0)
    return std::pair(std::move(rows[0]), std::move(rows[1]));
  const bool q8 = c.geometry.format == SY_QUANT_Q8_0;
  std::array<Tensor, 2> sides;
  for (std::size_t side = 0; side < 2; ++side) {
    Quantized q;
    q.format = q8 ? "q8_0" : "mlx_affine4";
    q.group_size = static_cast<int>(c.geometry.group);
    q.shape = {o.batch, o.kv_heads, count, side == 0 ? o.head_dim : o.value_dim};
    q.dtype = q8 ? dtypes::f32 : o.dtype;
    q.codes = std::move(rows[side]);
    if (!q8) {
      q.scales = std::move(rows[KVGeometry::key_scales + 2 * side]);
      q.biases = std::move(rows[KVGeometry::key_biases + 2 * side]);
    }
    auto out = Tensor::empty(dtypes::f32, q.shape);
    if (!out) return tl::unexpected(out.error());
    auto done = dequantize(c.runner(), q, out->view(), nullptr);
    if (!done) return tl::unexpected(done.error());
    sides[side] = std::move(*out);
  }
  return std::pair(std::move(sides[0]), std::move(sides[1]));
}

}  // namespace switchyard
