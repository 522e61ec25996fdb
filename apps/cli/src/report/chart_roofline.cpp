// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "charts.hpp"

namespace switchyard::cli::report {
namespace {

struct Box {
  double x, y, width, height;
  bool meets(const Box &o) const {
    return x < o.x + o.width && o.x < x + width && y < o.y + o.height && o.y < y + height;
  }
};

/// Ceilings that would lie on each other are drawn once, under all their names.
std::vector<Roofline::Ceiling> joined(std::vector<Roofline::Ceiling> all,
                                      double pixels_per_decade) {
  std::ranges::sort(all, std::greater{}, &Roofline::Ceiling::value);
  std::vector<Roofline::Ceiling> out;
  for (const auto &c : all) {
    if (!out.empty() && std::log10(out.back().value / c.value) * pixels_per_decade < 14)
      out.back().name += " · " + c.name;
    else
      out.push_back(c);
  }
  return out;
}

}  // namespace

Drawing draw(const Roofline &chart, double width, const Palette &palette) {
  const bool narrow = width < 500;
  const double left = 52, right = width - 12, top = 22, bottom = top + (narrow ? 280 : 360);
  Drawing d(width, bottom + 46);
  double peak = 0, fastest = 0;
  for (const auto &c : chart.peaks) peak = std::max(peak, c.value);
  for (const auto &c : chart.levels) fastest = std::max(fastest, c.value);
  std::vector<double> xs, ys;
  for (const auto &p : chart.points) {
    xs.push_back(p.intensity);
    ys.push_back(p.gflops);
  }
  double slowest = fastest;
  for (const auto &c : chart.levels) slowest = std::min(slowest, c.value);
  // The ridges belong into the picture: that is where the limits change.
  if (fastest > 0 && peak > 0) {
    xs.push_back(peak / slowest * 1.5);
    ys.push_back(peak);
    xs.push_back(*std::ranges::min_element(xs) / 3);  // room for the names of the slopes
  }
  Scale x = Scale::logarithmic(xs, 0.08).pixels(left, right);
  Scale y = Scale::logarithmic(ys, 0.05).pixels(bottom, top);
  draw_y_axis(d, y, left, right, Unit::gflops, 7);
  d.text(0, 12, "GFLOP/s", "l");
  draw_x_axis(d, x, top, bottom, Unit::intensity, "arithmetic per byte of least traffic (FLOP/B)",
              narrow ? 5 : 9);
  const double decade = (y.at(1) - y.at(10));
  const double slope = std::atan2(y.at(1) - y.at(10), x.at(10) - x.at(1));
  std::vector<Box> taken;
  for (const auto &c : joined(chart.levels, decade)) {
    // From the left or lower edge to the highest peak.
    const double from = std::max(x.low(), y.low() / c.value), to = peak / c.value;
    if (!(to > from)) continue;
    const double end = std::min(to, x.high());
    d.line(x.at(from), y.at(from * c.value), x.at(end), y.at(end * c.value), "roof");
    const std::string words = c.name + " " + in_words(c.value, Unit::number) + " GB/s";
    const double px = x.at(from) + 8, py = y.at(from * c.value) - 8 * std::tan(slope) - 5;
    if (px + text_width(words) * std::cos(slope) < x.at(end))
      d.text(px, py, words, "t", "start", -slope * 180 / std::numbers::pi);
  }
  std::vector<std::pair<double, std::string>> ceilings;
  for (const auto &c : joined(chart.peaks, decade)) {
    const double from = std::max(x.low(), c.value / std::max(fastest, 1e-9));
    if (from >= x.high()) continue;
    d.line(x.at(from), y.at(c.value), right, y.at(c.value), "roof");
    ceilings.emplace_back(y.at(c.value), c.name + " " + in_words(c.value, Unit::number));
  }
  for (const auto &p : chart.points)
    taken.push_back({x.at(p.intensity) - 7, y.at(p.gflops) - 7, 14, 14});
  for (const auto &p : chart.points) {
    const double px = x.at(p.intensity), py = y.at(p.gflops);
    d.mark(
        px, py, palette.of(p.name),
        fmt::format("{} on {}: {}, {}{}", p.label, p.name, in_words(p.gflops, Unit::gflops),
                    in_words(p.intensity, Unit::intensity), p.bound.empty() ? "" : ", " + p.bound));
    // The highest of each name, where there is room; the table below names every point.
    if (std::ranges::any_of(chart.points, [&](const auto &o) {
          return o.label == p.label && o.intensity == p.intensity && o.gflops > p.gflops;
        }))
      continue;
    const double w = text_width(p.label);
    for (const Box &place : {Box{px + 9, py - 7, w, 14}, Box{px - 9 - w, py - 7, w, 14},
                             Box{px - w / 2, py - 22, w, 14}, Box{px - w / 2, py + 9, w, 14}}) {
      const bool outside = place.x < left || place.x + place.width > right || place.y < top ||
                           place.y + place.height > bottom;
      if (outside || std::ranges::any_of(taken, [&](const Box &b) { return b.meets(place); }))
        continue;
      taken.push_back(place);
      d.text(place.x, place.y + 11, p.label, "t");
      break;
    }
  }
  // Names of ceilings stand at the right, or as far left as points and slopes leave room.
  for (const auto &[py, words] : ceilings) {
    const double w = text_width(words);
    Box place{right - w, py - 16, w, 14};
    while (std::ranges::any_of(taken, [&](const Box &b) { return b.meets(place); }) &&
           place.x > left + w)
      place.x -= 8;
    d.text(place.x + w, py - 5, words, "t", "end");
    taken.push_back(place);
  }
  return d;
}

}  // namespace switchyard::cli::report
