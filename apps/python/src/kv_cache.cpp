// SPDX-License-Identifier: Apache-2.0
#include <nanobind/stl/optional.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <switchyard/attention.hpp>
#include <switchyard/kv_cache.hpp>

#include "arrays.hpp"
#include "attention.hpp"
#include "calls.hpp"

namespace switchyard::python {
namespace {

using std::string;

KVCacheOptions options_of(const string &kind, const string &format, const string &dtype,
                          std::int64_t batch, std::int64_t kv_heads, std::int64_t head_dim,
                          std::int64_t value_dim, std::int64_t capacity, std::int64_t keep,
                          std::int64_t rewind, std::int64_t page_size,
                          std::shared_ptr<KVBudget> budget) {
  KVCacheOptions o;
  o.kind = value(parse_kv_kind(kind));
  o.format = value(parse_kv_format(format));
  o.dtype = value(parse_dtype(dtype));
  o.batch = batch;
  o.kv_heads = kv_heads;
  o.head_dim = head_dim;
  o.value_dim = value_dim;
  o.capacity = capacity;
  o.keep = keep;
  o.rewind = rewind;
  o.page_size = page_size;
  o.budget = std::move(budget);
  return o;
}

/// The arrays and numbers of one attention call, kept alive while it runs.
struct Arguments {
  Array q, mask, sinks, alibi, out;
  AttentionCall options;

  Arguments(nb::handle q_in, std::optional<std::int64_t> window, float softcap, nb::handle mask_in,
            float scale, nb::handle sinks_in, nb::handle alibi_in, bool return_lse,
            nb::handle out_in)
      : q(q_in, "q", Access::read),
        mask(mask_in, "mask", Access::read),
        sinks(sinks_in, "sinks", Access::read),
        alibi(alibi_in, "alibi", Access::read),
        out(out_in, "out", Access::write) {
    options.window = window;
    options.softcap = softcap;
    options.mask = mask.view();
    options.scale = scale;
    options.sinks = sinks.view();
    options.alibi = alibi.view();
    options.return_lse = return_lse;
    options.out = out.view();
  }
};

nb::tuple answer(AttentionResult r, const Arguments &a, nb::handle out) {
  const string dtype = to_string(r.out.present() ? r.out.dtype() : a.q.view().dtype());
  const RunInfo &i = r.info;
  nb::tuple info = nb::make_tuple(i.backend, i.kernel, i.requested_backend, i.verified,
                                  i.fallback_reason, i.time_ms, i.reused);
  return nb::make_tuple(a.out.present() ? nb::borrow(out) : to_numpy(std::move(r.out)),
                        to_numpy(std::move(r.lse)), dtype, info);
}

nb::tuple attend(KVCache &cache, nb::handle q, std::optional<std::int64_t> window, float softcap,
                 nb::handle mask, float scale, nb::handle sinks, nb::handle alibi, bool return_lse,
                 nb::handle out) {
  const Arguments a(q, window, softcap, mask, scale, sinks, alibi, return_lse, out);
  return answer(value(unlocked([&] { return cache.attend(a.q.view(), a.options); })), a, out);
}

nb::tuple update(KVCache &cache, nb::handle q, nb::handle k, nb::handle v,
                 std::optional<std::int64_t> window, float softcap, nb::handle mask, float scale,
                 nb::handle sinks, nb::handle alibi, bool return_lse, nb::handle out) {
  const Arguments a(q, window, softcap, mask, scale, sinks, alibi, return_lse, out);
  const Array k_in(k, "k", Access::read), v_in(v, "v", Access::read);
  return answer(value(unlocked(
                    [&] { return cache.update(a.q.view(), k_in.view(), v_in.view(), a.options); })),
                a, out);
}

nb::tuple attend_all(const std::vector<KVCache *> &caches, nb::handle q,
                     std::optional<std::int64_t> window, float softcap, nb::handle mask,
                     float scale, nb::handle sinks, nb::handle alibi, bool return_lse,
                     nb::handle out) {
  const Arguments a(q, window, softcap, mask, scale, sinks, alibi, return_lse, out);
  return answer(value(unlocked([&] { return KVCache::attend_all(caches, a.q.view(), a.options); })),
                a, out);
}

nb::tuple ragged(Engine &engine, nb::handle q, nb::handle k, nb::handle v, nb::handle q_offsets,
                 nb::handle kv_offsets, int causal, std::optional<std::int64_t> window,
                 float softcap, float scale, nb::handle sinks, nb::handle alibi, bool return_lse,
                 nb::handle out) {
  Arguments a(q, window, softcap, nb::none(), scale, sinks, alibi, return_lse, out);
  a.options.causal = static_cast<sy_causal>(causal);
  const Array k_in(k, "k", Access::read), v_in(v, "v", Access::read),
      q_at(q_offsets, "q_offsets", Access::read), kv_at(kv_offsets, "kv_offsets", Access::read);
  return answer(value(unlocked([&] {
                  return attention_ragged(engine, a.q.view(), k_in.view(), v_in.view(), q_at.view(),
                                          kv_at.view(), a.options);
                })),
                a, out);
}

void append(KVCache &cache, nb::handle k, nb::handle v) {
  const Array k_in(k, "k", Access::read), v_in(v, "v", Access::read);
  value(unlocked([&] { return cache.append(k_in.view(), v_in.view()); }));
}

nb::tuple read(const KVCache &cache, std::int64_t begin, std::int64_t count) {
  auto pair = value(unlocked([&] { return cache.read(begin, count); }));
  const string dtype = to_string(pair.first.dtype());
  return nb::make_tuple(to_numpy(std::move(pair.first)), to_numpy(std::move(pair.second)), dtype);
}

nb::dict memory(const KVCache &cache) {
  const KVMemory m = cache.memory();
  nb::dict d;
  d["reserved"] = m.reserved;
  d["used"] = m.used;
  d["shared"] = m.shared;
  d["per_token"] = m.per_token;
  return d;
}

}  // namespace

void bind_kv_cache(nb::module_ &m, nb::class_<Engine> &engine_class) {
  engine_class.def("attention_ragged", &ragged, nb::arg(), nb::arg(), nb::arg(), nb::arg(),
                   nb::arg(), nb::arg(), nb::arg().none(), nb::arg(), nb::arg(), nb::arg().none(),
                   nb::arg().none(), nb::arg(), nb::arg().none());
  nb::class_<KVBudget>(m, "KVBudget")
      .def("__init__", [](KVBudget *self, std::uint64_t cap) { new (self) KVBudget(cap); })
      .def("cap", &KVBudget::cap)
      .def("used", &KVBudget::used)
      .def("peak", &KVBudget::peak);
  nb::class_<KVCacheOptions>(m, "KVCacheOptions")
      .def_static("make", &options_of, nb::arg(), nb::arg(), nb::arg(), nb::arg(), nb::arg(),
                  nb::arg(), nb::arg(), nb::arg(), nb::arg(), nb::arg(), nb::arg(),
                  nb::arg().none());
  const auto a = nb::arg().none();
  nb::class_<KVCache>(m, "KVCache")
      .def_static(
          "create",
          [](Engine &engine, const KVCacheOptions &o) {
            return value(unlocked([&] { return KVCache::create(engine, o); }));
          },
          nb::keep_alive<0, 1>())
      .def_static(
          "load",
          [](Engine &engine, const string &path, const KVCacheOptions &o, const string &key) {
            return value(unlocked([&] { return KVCache::load(engine, path, o, key); }));
          },
          nb::keep_alive<0, 1>())
      .def("save", [](const KVCache &c, const string &path,
                      const string &key) { value(unlocked([&] { return c.save(path, key); })); })
      .def("length", &KVCache::length)
      .def("held", &KVCache::held)
      .def("trimmable", &KVCache::trimmable)
      .def("append", &append)
      .def("attend", &attend, nb::arg(), a, nb::arg(), a, nb::arg(), a, a, nb::arg(), a)
      .def("update", &update, nb::arg(), nb::arg(), nb::arg(), a, nb::arg(), a, nb::arg(), a, a,
           nb::arg(), a)
      .def_static("attend_all", &attend_all, nb::arg(), nb::arg(), a, nb::arg(), a, nb::arg(), a, a,
                  nb::arg(), a)
      .def("trim", [](KVCache &c, std::int64_t n) { value(c.trim(n)); })
      .def(
          "copy", [](const KVCache &c) { return value(c.copy()); }, nb::keep_alive<0, 1>())
      .def(
          "fork", [](const KVCache &c) { return value(c.fork()); }, nb::keep_alive<0, 1>())
      .def(
          "sibling", [](const KVCache &c) { return value(c.sibling()); }, nb::keep_alive<0, 1>())
      .def("read", &read)
      .def("memory", &memory);
}

}  // namespace switchyard::python
