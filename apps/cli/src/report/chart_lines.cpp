// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <set>

#include "charts.hpp"

namespace switchyard::cli::report {
namespace {

/// log y of a series at log x; NaN outside its points.
double at(const LineChart::Series &s, double x) {
  for (std::size_t i = 0; i < s.points.size(); ++i) {
    const LineChart::Point &b = s.points[i];
    if (b.x == x) return std::log(b.y);
    if (b.x < x) continue;
    if (i == 0) return NAN;
    const LineChart::Point &a = s.points[i - 1];
    const double share = std::log(x / a.x) / std::log(b.x / a.x);
    return std::log(a.y) + share * std::log(b.y / a.y);
  }
  return NAN;
}

const LineChart::Series *lowest(const LineChart &chart, double x) {
  const LineChart::Series *best = nullptr;
  double least = 0;
  for (const LineChart::Series &s : chart.series) {
    const double y = at(s, x);
    if (std::isnan(y) || (best != nullptr && y >= least)) continue;
    best = &s;
    least = y;
  }
  return best;
}

}  // namespace

void LineChart::find_crossovers() {
  crossovers.clear();
  std::set<double> xs;
  for (const Series &s : series)
    for (const Point &p : s.points) xs.insert(p.x);
  // Between two neighbouring sizes every series is one straight piece: their lower hull, in steps.
  constexpr int kSteps = 64;
  const Series *now = nullptr;
  double before = 0;
  for (const double x : xs) {
    for (int i = now == nullptr ? kSteps : 1; i <= kSteps; ++i) {
      const double here =
          now == nullptr ? x : before * std::pow(x / before, static_cast<double>(i) / kSteps);
      const Series *best = lowest(*this, i == kSteps ? x : here);
      if (now != nullptr && best != nullptr && best != now)
        crossovers.push_back({here, now->name, best->name});
      if (best != nullptr) now = best;
    }
    before = x;
  }
}

Drawing draw(const LineChart &chart, double width, const Palette &palette) {
  std::vector<double> xs, ys;
  for (const auto &s : chart.series)
    for (const auto &p : s.points) {
      xs.push_back(p.x);
      ys.push_back(p.y);
    }
  const bool narrow = width < 500;
  // Each crossover's words have a row of their own above the grid.
  const std::size_t shown = std::min<std::size_t>(chart.crossovers.size(), 4);
  const double top = 8 + 16 * static_cast<double>(shown), bottom = top + (narrow ? 230 : 300);
  const double left = 58, right = width - 14;
  Drawing d(width, bottom + 46);
  Scale x = Scale::logarithmic(xs, 0.03).pixels(left, right);
  Scale y = Scale::logarithmic(ys).pixels(bottom, top);
  draw_y_axis(d, y, left, right, chart.y_unit, 7);
  draw_x_axis(d, x, top, bottom, chart.x_unit, chart.x_label, narrow ? 5 : 9);
  for (std::size_t i = 0; i < shown; ++i) {
    const auto &c = chart.crossovers[i];
    const double px = x.at(c.x), py = 12 + 16 * static_cast<double>(i);
    d.line(px, py + 4, px, bottom, "cross");
    const std::string words = c.to + " from " + tick_text(c.x, chart.x_unit);
    const double half = text_width(words, true) / 2;
    const char *anchor = px + half > right ? "end" : px - half < left ? "start" : "middle";
    d.text(px, py, words, "l", anchor);
  }
  for (const auto &s : chart.series) {
    std::vector<std::pair<double, double>> line;
    for (const auto &p : s.points) line.emplace_back(x.at(p.x), y.at(p.y));
    d.path(line, "line s" + std::to_string(palette.of(s.name) % 8));
  }
  for (const auto &s : chart.series)
    for (const auto &p : s.points)
      d.mark(x.at(p.x), y.at(p.y), palette.of(s.name),
             s.name + ": " + in_words(p.y, chart.y_unit) + " at " + in_words(p.x, chart.x_unit), 4);
  return d;
}

}  // namespace switchyard::cli::report
