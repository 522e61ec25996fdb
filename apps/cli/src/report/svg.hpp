// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Small pieces that charts are made of: scales, ticks, numbers in words, SVG elements. Colours are
/// CSS classes, so that one drawing serves light and dark pages.

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace switchyard::cli::report {

/// For text and for attribute values.
std::string escape(std::string_view text);

enum class Unit { number, milliseconds, bytes, share, times, gflops, intensity };

/// "1.2 ms", "64 kB", "12 %", "3.5×": three digits at most.
std::string in_words(double value, Unit unit);
/// The same, as short as a tick wants it: "10 µs", "1M".
std::string tick_text(double value, Unit unit);

/// Values to pixels, linear or logarithmic.
class Scale {
 public:
  /// Covers `values` (on a logarithmic scale: the positive ones) with a margin; a linear scale
  /// starts at 0.
  static Scale linear(const std::vector<double> &values);
  static Scale logarithmic(const std::vector<double> &values, double margin = 0.06);

  Scale &pixels(double from, double to) noexcept {
    from_ = from;
    to_ = to;
    return *this;
  }
  double at(double value) const noexcept;
  double low() const noexcept { return low_; }
  double high() const noexcept { return high_; }
  /// Round values inside the scale, `most` at most.
  std::vector<double> ticks(std::size_t most) const;

 private:
  double low_ = 0, high_ = 1, from_ = 0, to_ = 1;
  bool log_ = false;
};

/// About how wide a text of the charts' font size (12 px) is; bold letters are wider.
double text_width(std::string_view text, bool bold = false) noexcept;

/// One drawing. Coordinates are pixels of the view box; CSS classes do the colours.
class Drawing {
 public:
  Drawing(double width, double height) : width_(width), height_(height) {}

  void line(double x1, double y1, double x2, double y2, std::string_view css);
  void path(const std::vector<std::pair<double, double>> &points, std::string_view css);
  void rect(double x, double y, double width, double height, std::string_view css,
            std::string_view title = {});
  /// `anchor` is start, middle or end; `turn` in degrees around (x, y).
  void text(double x, double y, std::string_view words, std::string_view css = "t",
            std::string_view anchor = "start", double turn = 0);
  /// The mark of series `index`: colour and shape, so that neither is needed alone.
  void mark(double x, double y, std::size_t index, std::string_view title = {}, double size = 5);
  /// The finished element; `label` is what it is for those who do not see it.
  std::string svg(std::string_view css, std::string_view label) const;

  double width() const noexcept { return width_; }
  double height() const noexcept { return height_; }

 private:
  double width_, height_;
  std::string body_;
};

/// Grid and labels of a horizontal axis below (`top` to `bottom`) or a vertical one at the left.
void draw_x_axis(Drawing &d, const Scale &x, double top, double bottom, Unit unit,
                 std::string_view label, std::size_t most);
void draw_y_axis(Drawing &d, const Scale &y, double left, double right, Unit unit,
                 std::size_t most);

}  // namespace switchyard::cli::report
