// SPDX-License-Identifier: Apache-2.0
#include "charts.hpp"

#include <algorithm>
#include <set>

namespace switchyard::cli::report {
namespace {

void names_of(const LineChart &c, std::vector<std::string> &out) {
  for (const auto &s : c.series) out.push_back(s.name);
}
void names_of(const DotChart &c, std::vector<std::string> &out) {
  for (const auto &row : c.rows)
    for (const auto &dot : row.dots) out.push_back(dot.name);
}
void names_of(const Roofline &c, std::vector<std::string> &out) {
  for (const auto &p : c.points) out.push_back(p.name);
}
void names_of(const ShareChart &c, std::vector<std::string> &out) {
  for (const auto &row : c.rows)
    for (const auto &part : row.parts) out.push_back(part.name);
}
void names_of(const BarChart &c, std::vector<std::string> &out) {
  for (const auto &row : c.rows)
    for (const auto &bar : row.bars) out.push_back(bar.name);
}

Cells cells_of(const LineChart &c) {
  Cells out{"r", {{c.x_label}}};
  std::set<double> xs;
  for (const auto &s : c.series) {
    out.align += 'r';
    out.rows.front().push_back(s.name);
    for (const auto &p : s.points) xs.insert(p.x);
  }
  for (const double x : xs) {
    auto &row = out.rows.emplace_back();
    row.push_back(in_words(x, c.x_unit));
    for (const auto &s : c.series) {
      const auto at = std::ranges::find(s.points, x, &LineChart::Point::x);
      row.push_back(at == s.points.end() ? "" : in_words(at->y, c.y_unit));
    }
  }
  return out;
}
Cells cells_of(const DotChart &c) {
  Cells out{"llr", {{"case", "who", c.x_label}}};
  if (!c.high_label.empty()) {
    out.align += 'r';
    out.rows.front().push_back(c.high_label);
  }
  for (const auto &row : c.rows)
    for (const auto &dot : row.dots) {
      out.rows.push_back({row.label, dot.name, in_words(dot.value, c.unit)});
      if (!c.high_label.empty())
        out.rows.back().push_back(dot.high > 0 ? in_words(dot.high, c.unit) : "");
    }
  return out;
}
Cells cells_of(const Roofline &c) {
  Cells out{"llrrl", {{"backend", "calls", "FLOP/B", "GFLOP/s", "limited by"}}};
  for (const auto &p : c.points)
    out.rows.push_back({p.name, p.label, in_words(p.intensity, Unit::number),
                        in_words(p.gflops, Unit::number), p.bound});
  return out;
}
Cells cells_of(const ShareChart &c) {
  Cells out{"llrr", {{"operation", "backend", "time", "share"}}};
  for (const auto &row : c.rows) {
    double total = 0;
    for (const auto &part : row.parts) total += part.value;
    for (const auto &part : row.parts)
      out.rows.push_back({row.label, part.name, in_words(part.value, Unit::milliseconds),
                          in_words(total > 0 ? part.value / total : 0, Unit::share)});
  }
  return out;
}
Cells cells_of(const BarChart &c) {
  Cells out{"llr", {{"case", "what", c.x_label}}};
  for (const auto &row : c.rows)
    for (const auto &bar : row.bars)
      out.rows.push_back({row.label, bar.name, in_words(bar.value, c.unit)});
  return out;
}

const char *unit_name(Unit unit) {
  switch (unit) {
    case Unit::milliseconds:
      return "ms";
    case Unit::bytes:
      return "bytes";
    case Unit::share:
      return "share";
    case Unit::times:
      return "times";
    case Unit::gflops:
      return "GFLOP/s";
    case Unit::intensity:
      return "FLOP/byte";
    case Unit::number:
      break;
  }
  return "";
}

Json json_of(const LineChart &c) {
  Json doc{{"kind", "lines"},
           {"x_label", c.x_label},
           {"x_unit", unit_name(c.x_unit)},
           {"y_unit", unit_name(c.y_unit)}};
  doc["series"] = Json::array();
  for (const auto &s : c.series) {
    Json points = Json::array();
    for (const auto &p : s.points) points.push_back({p.x, p.y});
    doc["series"].push_back(Json{{"name", s.name}, {"points", std::move(points)}});
  }
  doc["crossovers"] = Json::array();
  for (const auto &x : c.crossovers)
    doc["crossovers"].push_back(Json{{"x", x.x}, {"from", x.from}, {"to", x.to}});
  return doc;
}
Json json_of(const DotChart &c) {
  Json doc{{"kind", "dots"}, {"x_label", c.x_label}, {"x_unit", unit_name(c.unit)}};
  doc["line"] = c.line > 0 ? Json(c.line) : Json(nullptr);
  doc["rows"] = Json::array();
  for (const auto &row : c.rows) {
    Json dots = Json::array();
    for (const auto &dot : row.dots)
      dots.push_back(Json{{"name", dot.name},
                          {"value", dot.value},
                          {"high", dot.high > 0 ? Json(dot.high) : Json(nullptr)}});
    doc["rows"].push_back(Json{{"label", row.label}, {"dots", std::move(dots)}});
  }
  return doc;
}
Json json_of(const Roofline &c) {
  Json doc{{"kind", "roofline"}, {"threads", c.threads}};
  for (const auto &[key, list] : {std::pair{"levels", &c.levels}, std::pair{"peaks", &c.peaks}}) {
    doc[key] = Json::array();
    for (const auto &x : *list) doc[key].push_back(Json{{"name", x.name}, {"value", x.value}});
  }
  doc["points"] = Json::array();
  for (const auto &p : c.points)
    doc["points"].push_back(Json{{"name", p.name},
                                 {"label", p.label},
                                 {"intensity", p.intensity},
                                 {"gflop_per_s", p.gflops},
                                 {"limited_by", p.bound}});
  return doc;
}
Json json_of(const ShareChart &c) {
  Json doc{{"kind", "shares"}, {"x_unit", "ms"}, {"rows", Json::array()}};
  for (const auto &row : c.rows) {
    Json parts = Json::array();
    for (const auto &p : row.parts) parts.push_back(Json{{"name", p.name}, {"value", p.value}});
    doc["rows"].push_back(Json{{"label", row.label}, {"parts", std::move(parts)}});
  }
  return doc;
}
Json json_of(const BarChart &c) {
  Json doc{{"kind", "bars"}, {"x_label", c.x_label}, {"x_unit", unit_name(c.unit)}};
  doc["rows"] = Json::array();
  for (const auto &row : c.rows) {
    Json bars = Json::array();
    for (const auto &b : row.bars) bars.push_back(Json{{"name", b.name}, {"value", b.value}});
    doc["rows"].push_back(Json{{"label", row.label}, {"bars", std::move(bars)}});
  }
  return doc;
}

}  // namespace

void Palette::settle() {
  std::size_t next = 0;
  for (auto &[name, index] : index_) {
    if (next == 7) ++next;  // the grey one
    index = name == "reference" ? 7 : next++;
  }
}

std::size_t Palette::of(const std::string &name) const {
  const auto at = index_.find(name);
  return at == index_.end() ? 0 : at->second;
}

std::vector<std::string> Chart::names() const {
  std::vector<std::string> all, out;
  std::visit([&](const auto &c) { names_of(c, all); }, body);
  for (std::string &name : all)
    if (std::ranges::find(out, name) == out.end()) out.push_back(std::move(name));
  return out;
}

std::string Chart::svg(double width, std::string_view css, const Palette &palette) const {
  return std::visit([&](const auto &c) { return draw(c, width, palette).svg(css, title); }, body);
}

Cells Chart::cells() const {
  return std::visit([](const auto &c) { return cells_of(c); }, body);
}

Json Chart::json() const {
  Json doc{{"title", title}, {"note", note}};
  doc.update(std::visit([](const auto &c) { return json_of(c); }, body));
  return doc;
}

}  // namespace switchyard::cli::report
