// SPDX-License-Identifier: Apache-2.0
#pragma once
/// The charts of a report: data that can be drawn at any width, listed as a table, and exported.

#include <map>
#include <string>
#include <variant>
#include <vector>

#include "../program.hpp"
#include "svg.hpp"

namespace switchyard::cli::report {

/// Series get the same colour and mark in every chart of a page. "reference" is the grey one.
class Palette {
 public:
  void add(const std::string &name) { index_.try_emplace(name, 0); }
  /// After the last `add`.
  void settle();
  std::size_t of(const std::string &name) const;

 private:
  std::map<std::string, std::size_t> index_;
};

/// Rows of text; the first is the header. `align`: l or r for each column.
struct Cells {
  std::string align;
  std::vector<std::vector<std::string>> rows;
};

/// Lines over a size, both axes logarithmic.
struct LineChart {
  struct Point {
    double x = 0, y = 0;
  };
  struct Series {
    std::string name;
    std::vector<Point> points;  ///< ascending in x
  };
  /// From `x` on another series is the lowest.
  struct Crossover {
    double x = 0;
    std::string from, to;
  };
  std::string x_label;
  Unit x_unit = Unit::number, y_unit = Unit::milliseconds;
  std::vector<Series> series;
  std::vector<Crossover> crossovers;

  /// Where the lowest series changes, by straight lines between points on both logarithmic axes.
  void find_crossovers();
};

/// One row for each case, one mark for each series, on a logarithmic axis.
struct DotChart {
  struct Dot {
    std::string name;
    double value = 0;
    double high = 0;  ///< of a thin line from the mark; 0 = none
  };
  struct Row {
    std::string label;
    std::vector<Dot> dots;
  };
  std::string x_label, high_label;
  Unit unit = Unit::milliseconds;
  double line = 0;  ///< drawn through all rows; 0 = none
  std::vector<Row> rows;
};

/// Arithmetic against traffic, and what the machine can do at best.
struct Roofline {
  struct Ceiling {
    std::string name;
    double value = 0;  ///< GB/s of a level, or GFLOP/s of a kind of factors
  };
  struct Point {
    std::string name, label;
    double intensity = 0, gflops = 0;
    std::string bound;  ///< in words, "" = unknown
  };
  int threads = 1;
  std::vector<Ceiling> levels, peaks;
  std::vector<Point> points;
};

/// Who did the work: bars of 100 %.
struct ShareChart {
  struct Part {
    std::string name;
    double value = 0;
  };
  struct Row {
    std::string label;
    std::vector<Part> parts;
  };
  std::vector<Row> rows;  ///< values are milliseconds
};

/// Amounts from zero.
struct BarChart {
  struct Bar {
    std::string name;
    double value = 0;
  };
  struct Row {
    std::string label;
    std::vector<Bar> bars;
  };
  Unit unit = Unit::bytes;
  std::string x_label;
  std::vector<Row> rows;
};

struct Chart {
  std::string title, note;
  std::variant<LineChart, DotChart, Roofline, ShareChart, BarChart> body;

  /// Names of the series in order of appearance.
  std::vector<std::string> names() const;
  std::string svg(double width, std::string_view css, const Palette &palette) const;
  Cells cells() const;
  Json json() const;
};

// One per file chart_*.cpp.
Drawing draw(const LineChart &chart, double width, const Palette &palette);
Drawing draw(const DotChart &chart, double width, const Palette &palette);
Drawing draw(const Roofline &chart, double width, const Palette &palette);
Drawing draw(const ShareChart &chart, double width, const Palette &palette);
Drawing draw(const BarChart &chart, double width, const Palette &palette);

}  // namespace switchyard::cli::report
