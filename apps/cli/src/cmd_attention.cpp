// SPDX-License-Identifier: Apache-2.0
// switchyard attention Q K V OUT: scaled dot-product attention over arrays in files.
#include <fmt/format.h>

#include <cmath>
#include <limits>

#include "arrays.hpp"
#include "cancel.hpp"
#include "compare.hpp"
#include "session.hpp"
#include "text.hpp"

namespace switchyard::cli {
namespace {

// The reference needs about 100 ms for as many multiply-adds.
constexpr std::int64_t kCompareWork = std::int64_t{1} << 25;

struct Arguments {
  std::string q, k, v, out, mask;
  bool causal = false;
  std::int64_t window = 0;
  double softcap = 0;
  double scale = std::numeric_limits<double>::quiet_NaN();
  CLI::Option *window_given = nullptr, *softcap_given = nullptr, *scale_given = nullptr;
};

Status check(const Arguments &a, const Common &common) {
  if (auto ok = check_common(common); !ok) return ok;
  if (a.window_given->count() > 0 && a.window < 1)
    return fail(ErrorCode::usage, fmt::format("--window {}: at least 1, the key itself", a.window));
  if (a.softcap_given->count() > 0 && !(a.softcap > 0 && std::isfinite(a.softcap)))
    return fail(ErrorCode::usage, fmt::format("--softcap {}: it must be above 0", a.softcap));
  if (a.scale_given->count() > 0 && !std::isfinite(a.scale))
    return fail(ErrorCode::usage, fmt::format("--scale {}: it must be finite", a.scale));
  return check_output(a.out, {".npy", ".npz", ".safetensors"});
}

Outcome run(const Arguments &a, const Common &common) {
  if (auto ok = check(a, common); !ok) return tl::unexpected(ok.error());
  Tensor q, k, v, mask;
  const auto load = [&](const std::string &name, Tensor &into) -> Status {
    auto array = load_input(name, common.dtype);
    if (!array) return tl::unexpected(array.error());
    into = std::move(*array);
    return {};
  };
  if (auto ok = load(a.q, q); !ok) return tl::unexpected(ok.error());
  if (auto ok = load(a.k, k); !ok) return tl::unexpected(ok.error());
  if (auto ok = load(a.v, v); !ok) return tl::unexpected(ok.error());
  if (same(q.dtype(), dtypes::bf16) && extension_of(a.out) != ".safetensors")
    return fail(ErrorCode::usage,
                fmt::format("'{}': the result is bf16, which only .safetensors can hold", a.out));
  AttentionOptions options;
  options.causal = a.causal ? SY_CAUSAL_BOTTOM_RIGHT : SY_CAUSAL_NONE;
  if (a.window_given->count() > 0) options.window = a.window;
  options.softcap = static_cast<float>(a.softcap);
  options.scale = static_cast<float>(a.scale);
  if (!a.mask.empty()) {
    auto array = load_input(a.mask, "");
    if (!array) return tl::unexpected(array.error());
    mask = std::move(*array);
    options.mask = mask;
  }

  auto engine = make_engine(common);
  if (!engine) return tl::unexpected(engine.error());
  Result<AttentionResult> result = [&] {
    EndAtOnce scope;
    return engine->attention(q, k, v, options);
  }();
  if (!result) return tl::unexpected(result.error());
  Json outputs = Json::object();
  if (auto ok = write_outputs({{"out", a.out, result->out}}, outputs); !ok)
    return tl::unexpected(ok.error());

  Rivals rivals(engine->options(), *engine);
  const auto compared = compare_with_reference(rivals, result->info, [&](Engine &reference) {
    // Multiply-adds per value of q: the keys, twice.
    const std::int64_t keys = std::max<std::int64_t>(1, k.view().dim(2));
    return compare_attention(*engine, reference, q, k, v, options,
                             std::max<std::int64_t>(1, kCompareWork / (2 * keys)));
  });

  Json doc = document("attention");
  add_run_info(doc, "attention", result->info);
  doc["shape"] = shape_json(q.shape());
  doc["dtype"] = to_string(q.dtype());
  doc["outputs"] = outputs;
  add_comparison(doc, compared);
  std::string text = run_info_text(result->info) + '\n';
  if (compared) text += compared->text() + '\n';
  text += fmt::format("q {}, k {}, v {}, {}\nout: {}\n", shape_text(q.shape()),
                      shape_text(k.shape()), shape_text(v.shape()), to_string(q.dtype()), a.out);
  if (a.causal && q.view().dim(2) != k.view().dim(2))
    text += "causal: the queries are the last positions of the keys (bottom right)\n";
  print_result(common, doc, text);
  return 0;
}

}  // namespace

void add_attention(Program &program) {
  auto a = std::make_shared<Arguments>();
  CLI::App *app = add_command(program, nullptr, "attention", "Scaled dot-product attention",
                              [a, &program] { return run(*a, program.common); });
  app->add_option("Q", a->q, "Queries [B, Hq, Lq, Dk], f32, f16 or bf16")->required();
  app->add_option("K", a->k, "Keys [B, Hkv, Lkv, Dk]")->required();
  app->add_option("V", a->v, "Values [B, Hkv, Lkv, Dv]")->required();
  app->add_option("OUT", a->out, "Result [B, Hq, Lq, Dv], .npy, .npz or .safetensors")->required();
  app->add_flag("--causal", a->causal, "Query i sees the keys up to its own position");
  a->window_given = app->add_option("--window", a->window,
                                    "Each query sees the last W keys only, its own included")
                        ->type_name("W");
  a->softcap_given =
      app->add_option("--softcap", a->softcap, "Scores become C * tanh(score / C)")->type_name("C");
  app->add_option("--mask", a->mask, "Bool (true = attend) or additive; broadcast from the right")
      ->type_name("M.npy");
  a->scale_given =
      app->add_option("--scale", a->scale, "Of the scores; default 1/sqrt(Dk)")->type_name("S");
}

}  // namespace switchyard::cli
