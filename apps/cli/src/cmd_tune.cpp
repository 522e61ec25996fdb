// SPDX-License-Identifier: Apache-2.0
// switchyard tune [OP] [SHAPE...]: measures all verified candidates on a grid of shapes and keeps
// the timings, so that later processes choose well from their first call on.
#include <fmt/format.h>

#include <chrono>
#include <memory>

#include "cancel.hpp"
#include "session.hpp"
#include "text.hpp"
#include "workload.hpp"

namespace switchyard::cli {
namespace {

using Clock = std::chrono::steady_clock;

struct Arguments {
  std::string op;
  std::vector<std::string> shapes;
  double seconds = 60;
  std::string lock;
  bool show = false;
};

Json to_json(const Measurement &m) {
  Json row{{"op", m.op}, {"shape", m.shape}, {"chosen", ""}, {"times_ns", Json::object()}};
  double best = 0;
  for (const auto &c : m.candidates) {
    row["times_ns"][c.kernel] = c.median_ns;
    if (best == 0 || c.median_ns < best) {
      best = c.median_ns;
      row["chosen"] = c.kernel;
    }
  }
  return row;
}

Result<std::vector<OpShape>> plan(const Arguments &a, const Common &common) {
  std::vector<OpShape> shapes;
  for (const std::string &text : a.shapes) {
    auto shape = parse_op_shape(a.op, {text}, common);
    if (!shape) return tl::unexpected(shape.error());
    shapes.push_back(std::move(*shape));
  }
  if (!shapes.empty()) return shapes;
  const auto ops = workload_ops(a.op);
  if (!ops) return tl::unexpected(ops.error());
  // The operations take turns, so that a short budget serves all of them.
  std::vector<std::vector<OpShape>> grids;
  for (const std::string &op : *ops) grids.push_back(tuning_grid(op));
  for (std::size_t i = 0, left = grids.size(); left > 0; ++i) {
    left = 0;
    for (const auto &grid : grids) {
      if (i < grid.size()) shapes.push_back(grid[i]);
      left += i + 1 < grid.size();
    }
  }
  return shapes;
}

/// The stored timings: one line a shape and kernel.
Outcome show(const Common &common, const Engine &engine) {
  Json doc = document("tune");
  doc["timings"] = Json::array();
  Table table({"op and kernel", "threads", "shape", "median", "95 % interval", "timings"},
              "lrlrrr");
  for (const StoredTiming &t : engine.stored_timings()) {
    doc["timings"].push_back(Json{{"kernel", t.kernel},
                                  {"runtime", t.runtime},
                                  {"threads", t.threads},
                                  {"shape", t.shape},
                                  {"median_ns", t.ns},
                                  {"low_ns", t.low},
                                  {"high_ns", t.high},
                                  {"samples", t.samples}});
    table.add({t.kernel, std::to_string(t.threads), t.shape, duration(t.ns / 1e6),
               duration(t.low / 1e6) + " to " + duration(t.high / 1e6), std::to_string(t.samples)});
  }
  doc["directory"] = engine.timing_directory();
  print_result(common, doc,
               fmt::format("{}timings in {}\n", table.text(), engine.timing_directory()));
  return 0;
}

Outcome run(const Arguments &a, const Common &common) {
  if (auto ok = check_common(common); !ok) return tl::unexpected(ok.error());
  if (!(a.seconds > 0 && a.seconds <= 1e6))
    return fail(ErrorCode::usage,
                fmt::format("--budget {}: it must be above 0 and at most 1e6 seconds", a.seconds));
  auto shapes = plan(a, common);
  if (!shapes) return tl::unexpected(shapes.error());
  auto engine = make_engine(common);
  if (!engine) return tl::unexpected(engine.error());
  if (a.show) return show(common, *engine);

  Json doc = document("tune");
  doc["threads"] = engine->threads();
  doc["shapes"] = Json::array();
  const auto start = Clock::now();
  const auto spent = [&] { return std::chrono::duration<double>(Clock::now() - start).count(); };
  std::map<std::string, int> wins;
  std::size_t done = 0;
  // What is compiled first and has the same cores takes its time and seldom wins: it comes last.
  bool put_off = false;
  const auto pass = [&](bool late) -> Status {
    std::size_t i = 0;
    for (const OpShape &shape : *shapes) {
      const double left = a.seconds - spent();
      if (left <= 0) break;
      show_status(fmt::format("{} of {} shapes{}, {:.0f} s left: {} {}", i, shapes->size(),
                              late ? " again" : "", left, shape.op, shape.shape.text()));
      MeasureOptions options;
      options.remember = true;
      options.hopeless = 3;  // only the order of the fast ones matters
      options.estimated = false;
      options.late = late;
      options.rounds = 3;        // of long calls; of short ones there is time for all
      options.most_rounds = 25;  // enough for the order; what short calls leave is for long ones
      options.seed = common.seed.value_or(0);
      options.seconds = std::min(left / static_cast<double>(shapes->size() - i), 2.0);
      options.go_on = [] { return !cancelled(); };
      const auto measured = engine->measure(shape.op, shape.shape.text(), options);
      if (!measured) return tl::unexpected(measured.error());
      put_off = put_off || measured->put_off > 0;
      if (i == doc["shapes"].size()) {
        doc["shapes"].push_back(to_json(*measured));
        ++done;
      } else {
        doc["shapes"][i] = to_json(*measured);
      }
      ++i;
    }
    return {};
  };
  auto finished = pass(false);
  if (finished && put_off) finished = pass(true);
  if (!finished) {
    clear_status();
    engine->save();  // an interrupted run keeps what it has; the next one goes on from there
    return tl::unexpected(finished.error());
  }
  for (const Json &row : doc["shapes"]) ++wins[row["chosen"].get<std::string>()];
  clear_status();
  engine->save();
  doc["measured"] = done;
  doc["planned"] = shapes->size();
  doc["seconds"] = spent();
  doc["directory"] = engine->timing_directory();
  Table table({"fastest on", "kernel"}, "rl");
  for (const auto &[kernel, count] : wins) table.add({std::to_string(count), kernel});
  std::string text = fmt::format("{} of {} shapes measured in {:.1f} s, kept in {}\n{}", done,
                                 shapes->size(), spent(), engine->timing_directory(), table.text());
  if (!a.lock.empty()) {
    if (const auto ok = engine->freeze(a.lock); !ok) return tl::unexpected(ok.error());
    doc["outputs"] = Json{{"lock", a.lock}};
    text += "decisions written to " + a.lock + "\n";
  }
  print_result(common, doc, text);
  return 0;
}

}  // namespace

void add_tune(Program &program) {
  auto a = std::make_shared<Arguments>();
  CLI::App *app = add_command(program, nullptr, "tune",
                              "Measure the candidates over many shapes and keep the timings",
                              [a, &program] { return run(*a, program.common); });
  app->add_option("OP", a->op, "Default: all operations");
  app->add_option("SHAPE", a->shapes, "name=value,...; default: a grid of typical ones");
  app->add_option("--budget", a->seconds, "Seconds in all; default 60")->type_name("S");
  app->add_option("--lock", a->lock, "Also write the decisions for --policy frozen")
      ->type_name("FILE");
  app->add_flag("--show", a->show, "Print the stored timings and measure nothing");
}

}  // namespace switchyard::cli
