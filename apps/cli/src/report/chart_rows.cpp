// SPDX-License-Identifier: Apache-2.0
// Charts that are a list of rows: dots, shares of a whole, amounts.
#include <fmt/format.h>

#include <algorithm>

#include "charts.hpp"

namespace switchyard::cli::report {
namespace {

/// The letters of a UTF-8 text.
std::vector<std::string> letters_of(const std::string &text) {
  std::vector<std::string> out;
  for (const char c : text) {
    const bool continued = (static_cast<unsigned char>(c) & 0xc0) == 0x80;
    if (!continued || out.empty()) out.emplace_back();
    out.back() += c;
  }
  return out;
}

/// As much of a (bold) label as fits: both ends, which tell rows apart.
std::string fitting(const std::string &label, double width) {
  if (text_width(label, true) <= width) return label;
  const auto letters = letters_of(label);
  const auto room = static_cast<std::size_t>(std::max(width / text_width("n", true) - 1, 4.0));
  const std::size_t tail = room * 2 / 5, head = room - tail;
  std::string out;
  for (std::size_t i = 0; i < letters.size(); ++i) {
    if (i == head) out += "…";
    if (i < head || i + tail >= letters.size()) out += letters[i];
  }
  return out;
}

}  // namespace

Drawing draw(const DotChart &chart, double width, const Palette &palette) {
  std::vector<double> values;
  for (const auto &row : chart.rows)
    for (const auto &dot : row.dots) {
      values.push_back(dot.value);
      if (dot.high > 0) values.push_back(dot.high);
    }
  if (chart.line > 0) values.push_back(chart.line);
  const double left = 10, right = width - 10, step = 44, top = 4;
  const double bottom = top + step * static_cast<double>(chart.rows.size()) + 4;
  Drawing d(width, bottom + 46);
  Scale x = Scale::logarithmic(values, 0.04).pixels(left, right);
  draw_x_axis(d, x, top, bottom, chart.unit, chart.x_label, width < 500 ? 5 : 9);
  if (chart.line > 0) d.line(x.at(chart.line), top, x.at(chart.line), bottom, "axis");
  for (std::size_t i = 0; i < chart.rows.size(); ++i) {
    const auto &row = chart.rows[i];
    const double y = top + step * static_cast<double>(i), middle = y + 30;
    // A plate behind the words, so that grid lines do not cross them.
    const std::string label = fitting(row.label, right - left);
    d.rect(left, y + 3, std::min(text_width(label, true), right - left), 16, "plate");
    d.text(left, y + 15, label, "l");
    d.line(left, middle, right, middle, "row");
    for (const auto &dot : row.dots)
      if (dot.high > dot.value)
        d.line(x.at(dot.value), middle, x.at(dot.high), middle,
               fmt::format("line s{}", palette.of(dot.name) % 8));
    // The smallest last: it lies on top.
    for (auto dot = row.dots.rbegin(); dot != row.dots.rend(); ++dot)
      d.mark(x.at(dot->value), middle, palette.of(dot->name),
             fmt::format("{}: {}", dot->name, in_words(dot->value, chart.unit)));
  }
  return d;
}

Drawing draw(const ShareChart &chart, double width, const Palette &palette) {
  const double step = 52, left = 0, right = width;
  Drawing d(width, step * static_cast<double>(chart.rows.size()) + 4);
  for (std::size_t i = 0; i < chart.rows.size(); ++i) {
    const auto &row = chart.rows[i];
    const double y = step * static_cast<double>(i);
    double total = 0;
    for (const auto &part : row.parts) total += part.value;
    d.text(left, y + 14, row.label + ": " + in_words(total, Unit::milliseconds), "l");
    double at = left;
    for (const auto &part : row.parts) {
      const double share = total > 0 ? part.value / total : 0;
      const double length = share * (right - left);
      const std::string words = part.name + " " + in_words(share, Unit::share);
      const std::size_t index = palette.of(part.name) % 8;
      d.rect(at, y + 20, std::max(length - 1, 0.5), 24, fmt::format("f{}", index),
             fmt::format("{}, {}", words, in_words(part.value, Unit::milliseconds)));
      if (text_width(words) + 10 < length) d.text(at + 6, y + 36, words, "on");
      at += length;
    }
  }
  return d;
}

Drawing draw(const BarChart &chart, double width, const Palette &palette) {
  std::vector<double> values;
  double widest = 0;
  std::size_t bars = 0;
  for (const auto &row : chart.rows)
    for (const auto &bar : row.bars) {
      values.push_back(bar.value);
      widest = std::max(widest, text_width(bar.name + " " + in_words(bar.value, chart.unit)));
      ++bars;
    }
  const double top = 2, bottom = top + 26 * static_cast<double>(chart.rows.size()) +
                                 22 * static_cast<double>(bars);
  Drawing d(width, bottom + 46);
  // Bars that reach far have their words inside.
  Scale x = Scale::linear(values).pixels(0, width - 12);
  draw_x_axis(d, x, top, bottom, chart.unit, chart.x_label, width < 500 ? 4 : 8);
  double y = top;
  for (const auto &row : chart.rows) {
    const std::string label = fitting(row.label, width);
    d.rect(0, y + 3, std::min(text_width(label, true), width), 16, "plate");
    d.text(0, y + 16, label, "l");
    y += 22;
    for (const auto &bar : row.bars) {
      const double end = x.at(bar.value);
      const std::string words = bar.name + " " + in_words(bar.value, chart.unit);
      d.rect(0, y, std::max(end, 1.0), 18, fmt::format("f{}", palette.of(bar.name) % 8), words);
      const bool inside = end + text_width(words) + 8 > width;
      if (!inside) d.rect(end + 3, y + 1, text_width(words) + 6, 16, "plate");
      d.text(inside ? end - 6 : end + 6, y + 13, words, inside ? "on" : "t",
             inside ? "end" : "start");
      y += 22;
    }
    y += 4;
  }
  return d;
}

}  // namespace switchyard::cli::report
