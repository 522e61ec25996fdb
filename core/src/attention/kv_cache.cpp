// SPDX-License-Identifier: Apache-2.0
/// Appending, attending, trimming. A rotating cache keeps its tokens in the order of their
/// positions and moves them to the front when it is full, so that kernels read one run of keys;
/// which of them a query sees is a matter of positions (a window that spares the first `keep`),
/// never of slots.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "attention/kv_impl.hpp"
#include "facade/engine_impl.hpp"
#include "host/float_state.hpp"
#include "io/cast.hpp"
#include "quantize/quantize.hpp"

namespace switchyard {
namespace {

constexpr std::int64_t kLeastSlots = 256;
constexpr std::int64_t kMostTokens = std::int64_t{1} << 30;

std::int64_t rounded_up(std::int64_t n, std::int64_t unit) { return (n + unit - 1) / unit * unit; }

}  // namespace

Result<KVCacheOptions> checked_options(KVCacheOptions o) {
  if (o.value_dim == 0) o.value_dim = o.head_dim;
  if (!same(o.dtype, dtypes::f32) && !same(o.dtype, dtypes::f16) && !same(o.dtype, dtypes::bf16))
    return fail(ErrorCode::dtype,
                fmt::format("a cache takes f32, f16 or bf16, not {}", to_string(o.dtype)));
  const auto between = [](std::string_view name, std::int64_t n, std::int64_t low,
                          std::int64_t high) -> Status {
    if (n >= low && n <= high) return {};
    return fail(ErrorCode::invalid_argument,
                fmt::format("{} is {}; it must be in {}..{}", name, n, low, high));
  };
  const bool rotating = o.kind == KVKind::rotating, paged = o.kind == KVKind::paged;
  for (const auto &ok :
       {between("batch", o.batch, 1, paged ? 1 : kMostTokens),
        between("kv_heads", o.kv_heads, 1, kMostTokens),
        between("head_dim", o.head_dim, 1, kMostTokens),
        between("value_dim", o.value_dim, 1, kMostTokens),
        between("capacity", o.capacity, rotating ? 1 : 0, kMostTokens),
        between("keep", o.keep, 0, rotating ? std::max<std::int64_t>(o.capacity - 1, 0) : 0),
        between("rewind", o.rewind, 0, rotating ? kMostTokens : 0),
        between("page_size", o.page_size, 1, 1 << 20)})
    if (!ok) return tl::unexpected(ok.error());
  return o;
}

Result<Engine *> reproducible(Engine &engine) {
  if (engine.options().numerics == Numerics::reproducible) return &engine;
  Engine::Impl &impl = engine.impl();
  const std::lock_guard lock(impl.pinned_mutex);
  auto &twin = impl.pinned["@reproducible"];
  if (twin == nullptr) {
    Options options = engine.options();
    options.numerics = Numerics::reproducible;
    options.result_cache = 0;
    options.resolved = true;
    auto made = Engine::create(std::move(options));
    if (!made) return tl::unexpected(made.error());
    twin = std::make_unique<Engine>(std::move(*made));
  }
  return twin.get();
}

Runner &KVCache::Impl::runner() const { return *engine->impl().dispatcher; }

KVCache::Impl::~Impl() { drop_pages(0); }

std::unique_ptr<KVCache::Impl> KVCache::Impl::empty_twin() const {
  auto twin = std::make_unique<Impl>();
  twin->engine = engine;
  twin->options = options;
  twin->geometry = geometry;
  return twin;
}

KVCache::KVCache(std::unique_ptr<Impl> impl) noexcept : impl_(std::move(impl)) {}
KVCache::KVCache(KVCache &&) noexcept = default;
KVCache &KVCache::operator=(KVCache &&) noexcept = default;
KVCache::~KVCache() = default;

Result<KVCache> KVCache::create(Engine &engine, const KVCacheOptions &options) {
  auto checked = checked_options(options);
  if (!checked) return tl::unexpected(checked.error());
  auto geometry = KVGeometry::of(*checked);
  if (!geometry) return tl::unexpected(geometry.error());
  auto same_bits = reproducible(engine);
  if (!same_bits) return tl::unexpected(same_bits.error());
  auto impl = std::make_unique<Impl>();
  impl->engine = *same_bits;
  impl->options = *checked;
  impl->geometry = std::move(*geometry);
  const KVCacheOptions &o = impl->options;
  if (impl->paged()) {
    impl->pool = std::make_shared<KVPool>();
    if (o.capacity > 0) {
      auto planes = KVPlanes::make(
          impl->geometry, rounded_up(o.capacity, o.page_size) / o.page_size, o.page_size, o.budget);
      if (!planes) return tl::unexpected(planes.error());
      impl->pool->planes = std::move(*planes);
      impl->pool->owners.resize(static_cast<std::size_t>(impl->pool->planes.outer()));
      for (std::int64_t i = impl->pool->planes.outer(); i > 0; --i)
        impl->pool->free.push_back(static_cast<std::int32_t>(i - 1));
    }
  } else if (impl->rotating() || o.capacity > 0) {
    // Moving the tokens to the front every `slack` tokens costs each a few copies of its row.
    const std::int64_t slack =
        impl->rotating() ? std::max<std::int64_t>(32, impl->window() / 4) : 0;
    auto planes = KVPlanes::make(impl->geometry, o.batch, o.capacity + o.rewind + slack, o.budget);
    if (!planes) return tl::unexpected(planes.error());
    impl->planes = std::move(*planes);
  }
  return KVCache(std::move(impl));
}

const KVCacheOptions &KVCache::options() const noexcept { return impl_->options; }
std::int64_t KVCache::length() const noexcept { return impl_->length; }
std::int64_t KVCache::held() const noexcept { return impl_->held(); }

Status KVCache::Impl::make_room(std::int64_t n) {
  if (held() + n <= planes.slots()) return {};
  if (rotating()) {
    // What queries may still see, and what `rewind` promises, moves to the front.
    const std::int64_t stay = window() + options.rewind;
    const std::int64_t drop = held() - options.keep - stay;
    for (std::int64_t b = 0; b < options.batch; ++b)
      planes.copy(planes, b, options.keep + drop, stay, b, options.keep);
    dropped += drop;
    return {};
  }
  const std::int64_t need = held() + n;
  if (need > kMostTokens)
    return fail(ErrorCode::overflow, fmt::format("a cache holds at most {} tokens", kMostTokens));
  const std::int64_t wish = rounded_up(std::max({kLeastSlots, need, planes.slots() * 3 / 2}), 64);
  auto grown = KVPlanes::make(geometry, options.batch, wish, options.budget);
  if (!grown && wish > need) grown = KVPlanes::make(geometry, options.batch, need, options.budget);
  if (!grown) return tl::unexpected(grown.error());
  for (std::int64_t b = 0; b < options.batch && held() > 0; ++b)
    grown->copy(planes, b, 0, held(), b, 0);
  planes = std::move(*grown);
  return {};
}

Status KVCache::Impl::append_rows(const KVRows &rows, std::int64_t from, std::int64_t n) {
  if (paged()) {
    if (auto ok = own_pages(n); !ok) return ok;
    const std::shared_lock lock(pool->mutex);
    const std::int64_t size = options.page_size;
    for (std::int64_t done = 0, count = 0; done < n; done += count) {
      const std::int64_t at = length + done;
      count = std::min(n - done, size - at % size);
      pool->planes.store(rows, 0, from + done, count, pages[static_cast<std::size_t>(at / size)],
                         at % size);
    }
    length += n;
    return {};
  }
  const std::int64_t most = rotating() ? slack() : n;
  for (std::int64_t done = 0, count = 0; done < n; done += count) {
    count = std::min(n - done, most);
    if (auto ok = make_room(count); !ok) return ok;
    for (std::int64_t b = 0; b < options.batch; ++b)
      planes.store(rows, b, from + done, count, b, held());
    length += count;
  }
  return {};
}

Status KVCache::Impl::append(const TensorView &k, const TensorView &v) {
  auto rows = make_rows(runner(), geometry, options, k, v);
  if (!rows) return tl::unexpected(rows.error());
  if (length > kMostTokens - k.dim(2) && !rotating())
    return fail(ErrorCode::overflow, fmt::format("a cache holds at most {} tokens", kMostTokens));
  return k.dim(2) == 0 ? Status() : append_rows(*rows, 0, k.dim(2));
}

Status KVCache::append(const TensorView &k, const TensorView &v) {
  const FloatStateGuard state;
  return impl_->append(k, v);
}

Result<AttentionCall> KVCache::Impl::complete(const TensorView &q,
                                              const AttentionCall &given) const {
  const auto wrong = [](std::string text) {
    return fail(ErrorCode::invalid_argument, std::move(text));
  };
  if (!q.present() || q.rank() != 4)
    return fail(ErrorCode::shape, "q must be [batch, heads, length, head_dim]");
  if (given.causal == SY_CAUSAL_TOP_LEFT)
    return wrong("a cache's queries are its last positions: causal cannot be top-left");
  if (given.kv_lengths.present() || given.block_table.present() || given.keep != 0)
    return wrong("kv_lengths, block_table and keep are the cache's own");
  if (rotating() && given.mask.present())
    return wrong("a rotating cache takes no mask: it no longer holds every key");
  if (given.window && (given.window_left >= 0 || given.window_right >= 0))
    return wrong("give either window or window_left and window_right, not both");
  if (given.window && *given.window < 1)
    return wrong(fmt::format("window is {}; it must be at least 1 (the query's own position)",
                             *given.window));
  AttentionCall o = given;
  o.causal = SY_CAUSAL_BOTTOM_RIGHT;
  if (!rotating()) return o;
  std::int64_t left = given.window ? *given.window - 1 : given.window_left;
  if (left < 0 || left > window() - 1) left = window() - 1;
  o.window.reset();
  o.window_left = left;
  o.keep = options.keep;
  return o;
}

Result<AttentionResult> KVCache::Impl::attend(const TensorView &q,
                                              const AttentionCall &given) const {
  auto o = complete(q, given);
  if (!o) return tl::unexpected(o.error());
  if (q.dim(2) > length)
    return fail(ErrorCode::shape, fmt::format("{} queries are the last positions of a cache of {}",
                                              q.dim(2), length));
  if (rotating() && dropped > 0 && held() - q.dim(2) < options.capacity - 1)
    return fail(ErrorCode::invalid_argument,
                fmt::format("what the first of {} queries sees is not held any more; use update",
                            q.dim(2)));
  if (!paged()) {
    StoredKeys stored = stored_keys(geometry, planes, held());
    stored.gap = dropped;
    if (planes.count() == 0) {  // nothing was ever appended
      const std::array shape{options.batch, options.kv_heads, std::int64_t{0}, options.head_dim};
      return fail(ErrorCode::shape,
                  fmt::format("the cache is empty: its keys are {}", shape_text(shape)));
    }
    return attention(runner(), q, slice(planes.plane(KVGeometry::keys), 2, 0, held()),
                     slice(planes.plane(KVGeometry::values), 2, 0, held()), *o, stored);
  }
  const std::shared_lock lock(pool->mutex);
  const std::int32_t n = static_cast<std::int32_t>(length);
  o->kv_lengths =
      TensorView(static_cast<const void *>(&n), dtypes::i32, std::array<std::int64_t, 1>{1});
  o->block_table =
      TensorView(static_cast<const void *>(pages.data()), dtypes::i32,
                 std::array<std::int64_t, 2>{1, static_cast<std::int64_t>(pages.size())});
  const KVPlanes &all = pool->planes;
  return attention(runner(), q, all.plane(KVGeometry::keys), all.plane(KVGeometry::values), *o,
                   stored_keys(geometry, all, options.page_size));
}

Result<AttentionResult> KVCache::attend(const TensorView &q, const AttentionCall &options) {
  const FloatStateGuard state;
  return impl_->attend(q, options);
}

/// In pieces for which there is room: a query sees the same keys however the tokens come.
Result<AttentionResult> KVCache::Impl::attend_rotating(const TensorView &q, const TensorView &k,
                                                       const TensorView &v,
                                                       const AttentionCall &given) {
  auto rows = make_rows(runner(), geometry, options, k, v);
  if (!rows) return tl::unexpected(rows.error());
  const std::int64_t n = k.dim(2), first = n - q.dim(2);
  AttentionResult result;
  AttentionCall o = given;
  if (!o.out.present()) {
    auto made =
        Tensor::empty(q.dtype(), std::array{q.dim(0), q.dim(1), q.dim(2), options.value_dim});
    if (!made) return tl::unexpected(made.error());
    result.out = std::move(*made);
  }
  if (o.return_lse) {
    auto made = Tensor::empty(dtypes::f32, std::array{q.dim(0), q.dim(1), q.dim(2)});
    if (!made) return tl::unexpected(made.error());
    result.lse = std::move(*made);
  }
  const TensorView out = o.out.present() ? o.out : result.out.view();
  if (out.rank() != 4 || out.dim(2) != q.dim(2))
    return fail(ErrorCode::shape, fmt::format("out has shape {}; it must have {} positions as q",
                                              shape_text(out.shape()), q.dim(2)));
  double ms = 0;
  for (std::int64_t done = 0, count = 0; done < n; done += count) {
    count = std::min(n - done, slack());
    if (done < first) count = std::min(count, first - done);  // before the queries begin
    if (auto ok = append_rows(*rows, done, count); !ok) return tl::unexpected(ok.error());
    if (done < first) continue;
    o.out = slice(out, 2, done - first, count);
    auto part = attend(slice(q, 2, done - first, count), o);
    if (!part) return part;
    if (o.return_lse)
      for (std::int64_t b = 0; b < q.dim(0); ++b)
        for (std::int64_t h = 0; h < q.dim(1); ++h)
          std::memcpy(result.lse.data<float>() + (b * q.dim(1) + h) * q.dim(2) + done - first,
                      part->lse.data<float>() + (b * q.dim(1) + h) * count,
                      static_cast<std::size_t>(count) * sizeof(float));
    ms += part->info.time_ms;
    result.info = std::move(part->info);
  }
  result.info.time_ms = ms;
  return result;
}

Result<AttentionResult> KVCache::update(const TensorView &q, const TensorView &k,
                                        const TensorView &v, const AttentionCall &options) {
  const FloatStateGuard state;
  if (auto ok = impl_->complete(q, options); !ok) return tl::unexpected(ok.error());
  const KVCacheOptions &o = impl_->options;
  const bool any_dtype = impl_->geometry.format != SY_QUANT_NONE;
  if (k.rank() != 4 || q.dim(2) > k.dim(2))
    return fail(ErrorCode::shape, fmt::format("{} queries with {} new positions; there may be at "
                                              "most as many",
                                              q.dim(2), k.rank() == 4 ? k.dim(2) : 0));
  if (q.dim(0) != o.batch || q.dim(1) % o.kv_heads != 0 || q.dim(3) != o.head_dim)
    return fail(ErrorCode::shape,
                fmt::format("q has shape {}; this cache takes [{}, a multiple of "
                            "{}, n, {}]",
                            shape_text(q.shape()), o.batch, o.kv_heads, o.head_dim));
  if (!any_dtype && !same(q.dtype(), o.dtype))
    return fail(ErrorCode::dtype, fmt::format("q is {}; this cache holds {}", to_string(q.dtype()),
                                              to_string(o.dtype)));
  if (impl_->rotating()) return impl_->attend_rotating(q, k, v, options);
  if (auto ok = impl_->append(k, v); !ok) return tl::unexpected(ok.error());
  auto result = impl_->attend(q, options);
  if (!result) (void)trim(k.dim(2));
  return result;
}

std::int64_t KVCache::trimmable() const noexcept {
  if (impl_->dropped == 0) return impl_->length;
  return std::max<std::int64_t>(0, impl_->held() - impl_->options.capacity);
}

Status KVCache::trim(std::int64_t n) {
  Impl &c = *impl_;
  if (n < 0 || n > c.length)
    return fail(ErrorCode::invalid_argument,
                fmt::format("trim is {}; it must be in 0..{}", n, c.length));
  const std::int64_t left = c.length - n;
  if (c.dropped > 0 && n > trimmable()) {
    if (left > c.options.keep)
      return fail(ErrorCode::invalid_argument,
                  fmt::format("the cache has dropped what position {} would see; it can forget up "
                              "to {} positions (rewind), or all but the first {}",
                              left, trimmable(), c.options.keep));
    c.dropped = 0;
  }
  c.length = left;
  if (c.paged())
    c.drop_pages(
        static_cast<std::size_t>(rounded_up(left, c.options.page_size) / c.options.page_size));
  return {};
}

void KVCache::clear() { (void)trim(impl_->length); }

KVMemory KVCache::memory() const {
  const Impl &c = *impl_;
  KVMemory m;
  m.per_token = c.geometry.token_bytes() * static_cast<std::uint64_t>(c.options.batch);
  if (!c.paged()) {
    m.reserved = c.planes.bytes();
    m.used = m.per_token * static_cast<std::uint64_t>(c.held());
    return m;
  }
  const std::shared_lock lock(c.pool->mutex);
  const std::uint64_t page = m.per_token * static_cast<std::uint64_t>(c.options.page_size);
  m.reserved = c.pool->planes.bytes();
  m.used = page * c.pages.size();
  for (const std::int32_t p : c.pages)
    if (c.pool->owners[static_cast<std::size_t>(p)] > 1) m.shared += page;
  return m;
}

}  // namespace switchyard
