// SPDX-License-Identifier: Apache-2.0
#include "svg.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>

namespace switchyard::cli::report {
namespace {

constexpr double kRoom = 44;  // between a chart's lower edge and its axis' words

/// At most three digits, without an exponent and without needless zeros.
std::string digits(double value) {
  const double size = std::abs(value);
  if (size == 0) return "0";
  if (size >= 100) return fmt::format("{:.0f}", value);
  const int places = size >= 10  ? 1
                     : size >= 1 ? 2
                                 : 2 - static_cast<int>(std::floor(std::log10(size)));
  std::string text = fmt::format("{:.{}f}", value, std::min(places, 9));
  text.erase(text.find_last_not_of('0') + 1);
  if (text.ends_with('.')) text.pop_back();
  return text;
}

struct Step {
  double size;
  const char *name;
};

/// The largest step that is not above `value`.
std::string stepped(double value, std::initializer_list<Step> steps, const char *space) {
  const Step *best = steps.begin();
  for (const Step &step : steps)
    if (std::abs(value) >= step.size * 0.9995) best = &step;
  return digits(value / best->size) + (best->name[0] == '\0' ? "" : space) + best->name;
}

std::string value_text(double value, Unit unit, bool tick) {
  const char *space = "\u00a0";
  switch (unit) {
    case Unit::milliseconds:
      if (value == 0) return "0";
      return stepped(value, {{1e-6, "ns"}, {1e-3, "µs"}, {1, "ms"}, {1e3, "s"}}, space);
    case Unit::bytes:
      return stepped(value, {{1, "B"}, {1e3, "kB"}, {1e6, "MB"}, {1e9, "GB"}, {1e12, "TB"}}, space);
    case Unit::share:
      return digits(100 * value) + space + "%";
    case Unit::times:
      return digits(value) + "×";
    case Unit::gflops:
      return digits(value) + (tick ? "" : std::string(space) + "GFLOP/s");
    case Unit::intensity:
      return digits(value) + (tick ? "" : std::string(space) + "FLOP/B");
    case Unit::number:
      break;
  }
  return stepped(value, {{1, ""}, {1e3, "k"}, {1e6, "M"}, {1e9, "G"}}, "");
}

}  // namespace

std::string escape(std::string_view text) {
  std::string out;
  for (const char c : text) switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += c;
    }
  return out;
}

std::string in_words(double value, Unit unit) { return value_text(value, unit, false); }
std::string tick_text(double value, Unit unit) { return value_text(value, unit, true); }

Scale Scale::linear(const std::vector<double> &values) {
  Scale s;
  s.high_ = 0;
  for (const double v : values) s.high_ = std::max(s.high_, v);
  if (!(s.high_ > 0)) s.high_ = 1;
  return s;
}

Scale Scale::logarithmic(const std::vector<double> &values, double margin) {
  double low = INFINITY, high = 0;
  for (const double v : values)
    if (v > 0 && std::isfinite(v)) {
      low = std::min(low, v);
      high = std::max(high, v);
    }
  Scale s;
  s.log_ = true;
  if (!(high > 0)) low = high = 1;
  // Less than a factor of four would stretch noise over the whole width.
  const double middle = std::sqrt(low * high);
  low = std::min(low, middle / 2);
  high = std::max(high, middle * 2);
  const double room = std::pow(high / low, margin);
  s.low_ = low / room;
  s.high_ = high * room;
  return s;
}

double Scale::at(double value) const noexcept {
  const double share = log_ ? std::log(std::max(value, low_ * 1e-9) / low_) / std::log(high_ / low_)
                            : (value - low_) / (high_ - low_);
  return from_ + share * (to_ - from_);
}

std::vector<double> Scale::ticks(std::size_t most) const {
  std::vector<double> out;
  most = std::max<std::size_t>(most, 2);
  if (!log_) {
    const double raw = (high_ - low_) / static_cast<double>(most);
    const double power = std::pow(10.0, std::floor(std::log10(raw)));
    double step = power;
    for (const double factor : {1.0, 2.0, 5.0, 10.0})
      if (factor * power >= raw * 0.999) {
        step = factor * power;
        break;
      }
    for (int i = 0; low_ + i * step <= high_ * 1.0001; ++i) out.push_back(low_ + i * step);
    return out;
  }
  const int first = static_cast<int>(std::floor(std::log10(low_)));
  const int last = static_cast<int>(std::ceil(std::log10(high_)));
  const auto inside = [&](std::initializer_list<double> factors, int every) {
    out.clear();
    for (int p = first; p <= last; ++p)
      if (p % every == 0)
        for (const double f : factors)
          if (const double v = f * std::pow(10.0, p); v >= low_ && v <= high_) out.push_back(v);
    return out.size() <= most;
  };
  if (inside({1, 2, 5}, 1) || inside({1, 3}, 1) || inside({1}, 1)) return out;
  for (int every = 2; every < 12; ++every)
    if (inside({1}, every)) break;
  return out;
}

double text_width(std::string_view text, bool bold) noexcept {
  // Widths in pixels at 12 px of DejaVu Sans, the widest of the fonts that pages commonly get.
  const auto of = [](unsigned char c) {
    if (c >= 0x80) return (c & 0xc0) == 0x80 ? 0.0 : 10.0;
    if (std::string_view("ijl|'").find(static_cast<char>(c)) != std::string_view::npos) return 3.5;
    if (std::string_view(" .,:;!/()[]-ftrI").find(static_cast<char>(c)) != std::string_view::npos)
      return 4.7;
    if (c == 'm' || c == 'W' || c == '%' || c == '@') return 12.0;
    if (c == 'w' || c == 'M' || c == '+' || c == '=' || c == '<' || c == '>') return 10.2;
    return c >= 'A' && c <= 'Z' ? 8.6 : 7.7;
  };
  double width = 0;
  for (const char c : text) width += of(static_cast<unsigned char>(c));
  return bold ? 1.13 * width : width;
}

void Drawing::line(double x1, double y1, double x2, double y2, std::string_view css) {
  body_ += fmt::format(R"(<line x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}" class="{}"/>)", x1,
                       y1, x2, y2, css);
}

void Drawing::path(const std::vector<std::pair<double, double>> &points, std::string_view css) {
  std::string d;
  for (const auto &[x, y] : points)
    d += fmt::format("{}{:.1f} {:.1f}", d.empty() ? "M" : "L", x, y);
  body_ += fmt::format(R"(<path d="{}" class="{}"/>)", d, css);
}

void Drawing::rect(double x, double y, double width, double height, std::string_view css,
                   std::string_view title) {
  body_ += fmt::format(R"(<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" class="{}">)",
                       x, y, std::max(width, 0.0), height, css);
  if (!title.empty()) body_ += "<title>" + escape(title) + "</title>";
  body_ += "</rect>";
}

void Drawing::text(double x, double y, std::string_view words_, std::string_view css,
                   std::string_view anchor, double turn) {
  const std::string turned =
      turn == 0 ? "" : fmt::format(R"r( transform="rotate({:.1f} {:.1f} {:.1f})")r", turn, x, y);
  body_ += fmt::format(R"(<text x="{:.1f}" y="{:.1f}" class="{}" text-anchor="{}"{}>{}</text>)", x,
                       y, css, anchor, turned, escape(words_));
}

void Drawing::mark(double x, double y, std::size_t index, std::string_view title, double size) {
  // Shapes of about equal area, in the order of the colours.
  std::string shape;
  const auto polygon = [&](int corners, double radius, double turn, double inner) {
    std::string points;
    const int n = inner > 0 ? 2 * corners : corners;
    for (int i = 0; i < n; ++i) {
      const double r = inner > 0 && i % 2 == 1 ? inner : radius;
      const double angle = turn + 2 * std::numbers::pi * i / n;
      points += fmt::format("{:.1f},{:.1f} ", x + r * std::sin(angle), y - r * std::cos(angle));
    }
    points.pop_back();
    shape = fmt::format(R"(<polygon points="{}")", points);
  };
  switch (index % 7) {
    case 0:
      shape = fmt::format(R"(<circle cx="{:.1f}" cy="{:.1f}" r="{:.1f}")", x, y, size);
      break;
    case 1:
      polygon(4, size * 1.25, std::numbers::pi / 4, 0);
      break;
    case 2:
      polygon(3, size * 1.4, 0, 0);
      break;
    case 3:
      polygon(4, size * 1.3, 0, 0);
      break;
    case 4:
      polygon(3, size * 1.4, std::numbers::pi, 0);
      break;
    case 5:
      polygon(5, size * 1.5, 0, size * 0.7);
      break;
    default:
      polygon(4, size * 1.5, std::numbers::pi / 4, size * 0.55);
  }
  body_ += fmt::format(R"({} class="m c{}")", shape, index % 8);
  body_ += title.empty() ? "/>"
                         : ">" + ("<title>" + escape(title) + "</title>") +
                               (shape.starts_with("<circle") ? "</circle>" : "</polygon>");
}

std::string Drawing::svg(std::string_view css, std::string_view label) const {
  return fmt::format(
      R"(<svg class="{}" viewBox="0 0 {:.0f} {:.0f}" role="img" aria-label="{}">{}</svg>)", css,
      width_, height_, escape(label), body_);
}

void draw_x_axis(Drawing &d, const Scale &x, double top, double bottom, Unit unit,
                 std::string_view label, std::size_t most) {
  double last = -INFINITY;
  for (const double v : x.ticks(most)) {
    const double at = x.at(v);
    d.line(at, top, at, bottom, "grid");
    const std::string text = tick_text(v, unit);
    const double width = text_width(text);
    // In the middle under its line, moved where the drawing ends.
    const double start = std::clamp(at - width / 2, 0.0, std::max(d.width() - width, 0.0));
    if (start < last + 4) continue;
    last = start + width;
    d.text(start + width / 2, bottom + 17, text, "t", "middle");
  }
  d.line(std::min(x.at(x.low()), x.at(x.high())), bottom, std::max(x.at(x.low()), x.at(x.high())),
         bottom, "axis");
  if (!label.empty())
    d.text((x.at(x.low()) + x.at(x.high())) / 2, bottom + kRoom - 7, label, "l", "middle");
}

void draw_y_axis(Drawing &d, const Scale &y, double left, double right, Unit unit,
                 std::size_t most) {
  for (const double v : y.ticks(most)) {
    const double at = y.at(v);
    d.line(left, at, right, at, "grid");
    d.text(left - 7, at + 4, tick_text(v, unit), "t", "end");
  }
}

}  // namespace switchyard::cli::report
