// SPDX-License-Identifier: Apache-2.0
#include "io/npy_header.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/checked.hpp"
#include "io/file.hpp"

namespace switchyard {
namespace {

struct Named {
  DType dtype;
  char kind;
};
constexpr std::array kNumeric = {
    Named{dtypes::f16, 'f'}, Named{dtypes::f32, 'f'}, Named{dtypes::f64, 'f'},
    Named{dtypes::i8, 'i'},  Named{dtypes::i16, 'i'}, Named{dtypes::i32, 'i'},
    Named{dtypes::i64, 'i'}, Named{dtypes::u8, 'u'},  Named{dtypes::u16, 'u'},
    Named{dtypes::u32, 'u'}, Named{dtypes::u64, 'u'}, Named{dtypes::boolean, 'b'}};

/// A reader of just the Python literals that NumPy writes.
class Literal {
 public:
  Literal(const std::string &path, std::string_view text) : path_(path), text_(text) {}

  Result<NpyHeader> parse() {
    NpyHeader header;
    if (!take('{')) return bad("'{' expected");
    bool descr = false, order = false, shape = false;
    while (!take('}')) {
      std::string_view key;
      if (!quoted(key)) return bad("a quoted key expected");
      bool *seen = key == "descr"           ? &descr
                   : key == "fortran_order" ? &order
                   : key == "shape"         ? &shape
                                            : nullptr;
      if (seen == nullptr) return bad(fmt::format("unknown key '{}'", key.substr(0, 40)));
      if (*seen) return bad(fmt::format("key '{}' given twice", key));
      *seen = true;
      if (!take(':')) return bad("':' expected");
      const Status status = seen == &descr   ? read_descr(header)
                            : seen == &order ? read_order(header)
                                             : read_shape(header);
      if (!status) return tl::unexpected(status.error());
      if (!take(',') && !peek('}')) return bad("',' or '}' expected");
    }
    if (!descr || !order || !shape)
      return bad("the keys descr, fortran_order and shape are not all there");
    skip();
    if (at_ != text_.size()) return bad("text after the closing '}'");
    return header;
  }

 private:
  tl::unexpected<Error> bad(std::string_view what) const {
    return file_error(path_, fmt::format("corrupt .npy header: {} at character {}", what, at_));
  }
  void skip() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n')) ++at_;
  }
  bool peek(char c) {
    skip();
    return at_ < text_.size() && text_[at_] == c;
  }
  bool take(char c) {
    if (!peek(c)) return false;
    ++at_;
    return true;
  }
  bool take(std::string_view word) {
    skip();
    if (!text_.substr(at_).starts_with(word)) return false;
    at_ += word.size();
    return true;
  }
  bool quoted(std::string_view &out) {
    const char quote = peek('\'') ? '\'' : '"';
    if (!peek(quote)) return false;
    const auto end = text_.find(quote, at_ + 1);
    if (end == std::string_view::npos) return false;
    out = text_.substr(at_ + 1, end - at_ - 1);
    at_ = end + 1;
    return true;
  }
  /// Decimal digits that fit 63 bits.
  bool number(std::int64_t &out) {
    const auto digit = [&] { return at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9'; };
    if (!digit()) return false;
    out = 0;
    for (; digit(); ++at_)
      if (__builtin_mul_overflow(out, 10, &out) ||
          __builtin_add_overflow(out, text_[at_] - '0', &out))
        return false;
    return true;
  }

  Status read_descr(NpyHeader &header) {
    if (peek('['))
      return file_error(path_,
                        "holds records (a structured dtype); one plain numeric "
                        "dtype is needed",
                        ErrorCode::dtype);
    std::string_view text;
    if (!quoted(text)) return bad("the dtype is not a quoted string");
    const bool prefixed = !text.empty() && std::string_view("<>|=").find(text[0]) != text.npos;
    header.order = prefixed ? text[0] : '|';
    if (header.order == '=') header.order = '<';
    if (prefixed) text.remove_prefix(1);
    if (text.empty()) return bad("the dtype is empty");
    header.kind = text[0];
    if (header.kind == 'O' || header.kind == 'M' || header.kind == 'm') return {};
    std::int64_t size = 0;
    Literal digits(path_, text.substr(1));
    if (!digits.number(size) || digits.at_ != digits.text_.size())
      return bad(fmt::format("unknown dtype '{}'", text.substr(0, 20)));
    header.size = static_cast<std::uint64_t>(size);
    return {};
  }
  Status read_order(NpyHeader &header) {
    header.fortran = take(std::string_view("True"));
    if (!header.fortran && !take(std::string_view("False"))) return bad("True or False expected");
    return {};
  }
  Status read_shape(NpyHeader &header) {
    if (!take('(')) return bad("the shape is not a tuple");
    while (!take(')')) {
      skip();
      if (peek('-')) return bad("a negative dimension");
      std::int64_t n = 0;
      if (!number(n)) return bad("a dimension that is no number below 2^63");
      if (header.shape.size() == SY_MAX_RANK)
        return file_error(path_, fmt::format("has more than {} dimensions", SY_MAX_RANK),
                          ErrorCode::shape);
      header.shape.push_back(n);
      (void)take('L');  // written by Python 2
      if (!take(',') && !peek(')')) return bad("',' or ')' expected");
    }
    return {};
  }

  const std::string &path_;
  std::string_view text_;
  std::size_t at_ = 0;
};

}  // namespace

Result<NpyHeader> parse_npy_header(const std::string &path, std::string_view text) {
  return Literal(path, text).parse();
}

Result<DType> npy_dtype(const std::string &path, const NpyHeader &header) {
  for (const Named &n : kNumeric)
    if (n.kind == header.kind && size_of(n.dtype) == header.size) {
      if (header.size > 1 && header.order == '|')
        return file_error(path, "corrupt .npy header: the dtype's byte order is missing");
      return n.dtype;
    }
  const char *what = header.kind == 'c'                         ? "complex numbers"
                     : header.kind == 'U' || header.kind == 'S' ? "text"
                     : header.kind == 'O'                       ? "Python objects"
                     : header.kind == 'M' || header.kind == 'm' ? "dates or times"
                                                                : nullptr;
  if (what != nullptr)
    return file_error(path, fmt::format("holds {}; a numeric dtype is needed", what),
                      ErrorCode::dtype);
  return file_error(path, fmt::format("dtype {}{} is not supported", header.kind, header.size),
                    ErrorCode::dtype);
}

std::optional<std::uint64_t> array_bytes(DType dtype, std::span<const std::int64_t> shape) {
  bool empty = false;
  std::int64_t bytes = static_cast<std::int64_t>(size_of(dtype));
  for (std::int64_t n : shape) {
    if (n < 0) return std::nullopt;
    empty = empty || n == 0;
    // An empty array's strides must fit too.
    const auto product = checked_mul<std::int64_t>(bytes, std::max<std::int64_t>(n, 1));
    if (!product) return std::nullopt;
    bytes = *product;
  }
  return empty ? 0 : static_cast<std::uint64_t>(bytes);
}

}  // namespace switchyard
