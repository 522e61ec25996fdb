// SPDX-License-Identifier: Apache-2.0
/// Right answers: every shape the operation's conformance list knows, beside guard pages, by number
/// of threads; and speed against the reference.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <vector>

#include "check/section.hpp"
#include "host/host.hpp"

namespace switchyard::check {
namespace {

/// What a problem stresses, by the words of its shape.
std::string kind_of(const Shape &shape) {
  const auto has = [&](std::string_view name) {
    const std::string *value = shape.find(name);
    return value != nullptr && *value != "0" && *value != "contiguous";
  };
  const std::string layout = shape.word("layout", "");
  if (layout == "unaligned" || has("misalign")) return "alignment";
  if (has("layout") || has("pad")) return "strides";
  return "plain";
}

struct Tally {
  int checked = 0, refused = 0;
  std::map<std::string, int> kinds, refused_kinds;
  std::string wrong;
};

Tally run_all(const Bench &bench, const Candidate &candidate) {
  Tally tally;
  const OpSpec &op = *all_ops()[candidate.op];
  const bool threaded = (candidate.kernel->traits & SY_TRAIT_OWN_THREADS) != 0;
  const std::vector<std::uint32_t> threads =
      threaded ? std::vector<std::uint32_t>{1, 2, 3, 8} : std::vector<std::uint32_t>{1};
  for (const Shape &shape : op.conformance_shapes()) {
    const auto problem = op.make_problem(shape, kGateSeed + 1);
    if (!problem) continue;
    bool supported = false;
    Expected expected(candidate.op, bench.reference, *problem);
    for (const std::uint32_t n : threads) {
      const auto verdict = check_problem(candidate, expected, n, Guards::pages);
      if (!verdict) continue;
      supported = true;
      ++tally.checked;
      if (verdict->empty()) continue;
      tally.wrong = *verdict + (n > 1 ? fmt::format(", {} threads", n) : "");
      return tally;
    }
    if (supported)
      ++tally.kinds[kind_of(shape)];
    else {
      ++tally.refused;
      ++tally.refused_kinds[kind_of(shape)];
    }
  }
  return tally;
}

double best_ms(const std::function<bool()> &run) {
  double best = 1e30;
  for (int i = 0; i < 7; ++i) {
    const std::uint64_t start = now_ns();
    if (!run()) return 0;
    best = std::min(best, static_cast<double>(now_ns() - start) / 1e6);
  }
  return best;
}

}  // namespace

void check_results(const Bench &bench) {
  const std::string name = "right answers, inputs unchanged, nothing touched outside the arrays";
  for (const auto &c : bench.candidates) {
    bench.begin(c->name, name);
    const Tally t = run_all(bench, *c);
    if (t.wrong.empty() && t.checked == 0) {
      bench.say(c->name, name, State::fail, "supports accepts none of the operation's problems");
      continue;
    }
    bench.verdict(c->name, name, t.wrong,
                  fmt::format("{} checks; {} problems not supported", t.checked, t.refused));
    if (!t.wrong.empty()) continue;
    for (const auto &[kind, words] :
         {std::pair{"strides", "rows with gaps, permuted, reversed, broadcast"},
          std::pair{"alignment", "data off the cache line"}}) {
      const auto it = t.kinds.find(kind);
      if (it != t.kinds.end())
        bench.say(c->name, words, State::pass, fmt::format("{} problems", it->second));
      else if (t.refused_kinds.contains(kind))
        bench.say(c->name, words, State::warn,
                  "supports refuses all of them; such calls go to other backends");
    }
  }
}

void check_speed(const Bench &bench) {
  const std::string name = "speed was measured";
  for (const auto &c : bench.candidates) {
    bench.begin(c->name, name);
    const auto trial = grown(*c, 1.0);
    const auto shapes = supported_shapes(*c, 1);
    const auto timed = trial != nullptr || shapes.empty() ? nullptr : Trial::make(*c, shapes[0]);
    Trial *t = trial != nullptr ? trial.get() : timed.get();
    if (t == nullptr) {
      bench.say(c->name, name, State::skip, "no problem is supported");
      continue;
    }
    const double ms = best_ms([&] { return t->status(*c) == SY_OK; });
    const double reference =
        best_ms([&] { return bench.reference.run(c->op, t->call()).has_value(); });
    if (ms <= 0 || reference <= 0) {
      bench.say(c->name, name, State::fail, "a run failed");
      continue;
    }
    bench.line(encode(Speed{c->name, t->problem().shape.text(), ms, reference}));
    if (ms > reference)
      bench.say(c->name, name, State::warn,
                "slower than the reference on this problem: it will hardly be chosen");
    else
      bench.say(c->name, name, State::pass);
  }
}

}  // namespace switchyard::check
