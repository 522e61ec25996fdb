// SPDX-License-Identifier: Apache-2.0
#include "io/safetensors_header.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "base/checked.hpp"
#include "base/suggest.hpp"

namespace switchyard {
namespace {

struct Type {
  std::string_view name;
  unsigned bits;
  std::optional<DType> dtype;
};
/// Every type of the format; those without a dtype can be listed but not read.
constexpr std::array kTypes = {Type{"F32", 32, dtypes::f32},
                               Type{"F16", 16, dtypes::f16},
                               Type{"BF16", 16, dtypes::bf16},
                               Type{"F64", 64, dtypes::f64},
                               Type{"I8", 8, dtypes::i8},
                               Type{"I16", 16, dtypes::i16},
                               Type{"I32", 32, dtypes::i32},
                               Type{"I64", 64, dtypes::i64},
                               Type{"U8", 8, dtypes::u8},
                               Type{"U16", 16, dtypes::u16},
                               Type{"U32", 32, dtypes::u32},
                               Type{"U64", 64, dtypes::u64},
                               Type{"BOOL", 8, dtypes::boolean},
                               Type{"F8_E4M3", 8, {}},
                               Type{"F8_E5M2", 8, {}},
                               Type{"F8_E8M0", 8, {}},
                               Type{"F6_E2M3", 6, {}},
                               Type{"F6_E3M2", 6, {}},
                               Type{"F4", 4, {}},
                               Type{"C64", 64, {}}};

const Type *find_type(std::string_view name) noexcept {
  for (const Type &t : kTypes)
    if (t.name == name) return &t;
  return nullptr;
}

/// Shared by both parsers: the reader of the JSON library calls these; a false answer stops it.
/// Working on events keeps memory in proportion to what is accepted, however deep or long the text.
class Events : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit Events(std::string path) : path_(std::move(path)) {}
  std::optional<Error> error;

  bool null() override { return unexpected("null"); }
  bool boolean(bool) override { return unexpected("a boolean"); }
  bool number_integer(number_integer_t) override { return unexpected("a negative number"); }
  bool number_unsigned(number_unsigned_t) override { return unexpected("a number"); }
  bool number_float(number_float_t, const string_t &) override { return unexpected("a fraction"); }
  bool string(string_t &) override { return unexpected("a text"); }
  bool binary(binary_t &) override { return unexpected("binary data"); }
  bool start_object(std::size_t) override { return unexpected("an object"); }
  bool start_array(std::size_t) override { return unexpected("an array"); }
  bool end_array() override { return true; }
  bool parse_error(std::size_t at, const std::string &,
                   const nlohmann::detail::exception &) override {
    return bad(fmt::format("not valid JSON (in UTF-8) at byte {}", at));
  }

 protected:
  bool bad(std::string_view what, ErrorCode code = ErrorCode::io) {
    if (!error) error = file_error(path_, fmt::format("corrupt header: {}", what), code).value();
    return false;
  }
  virtual bool unexpected(std::string_view what) = 0;
  const std::string path_;
};

class HeaderEvents final : public Events {
 public:
  using Events::Events;
  SafetensorsHeader header;

  bool start_object(std::size_t) override {
    switch (state_) {
      case State::start:
        state_ = State::names;
        return true;
      case State::tensor:
        state_ = State::keys;
        return true;
      case State::metadata:
        state_ = State::metadata_keys;
        return true;
      default:
        return unexpected("an object");
    }
  }
  bool end_object() override {
    if (state_ == State::keys) {
      if (!finish_tensor()) return false;
      state_ = State::names;
    } else if (state_ == State::metadata_keys) {
      state_ = State::names;
    } else {
      state_ = State::done;
    }
    return true;
  }
  bool key(string_t &name) override {
    if (state_ == State::names) {
      if (name == "__metadata__") {
        if (std::exchange(has_metadata_, true)) return bad("'__metadata__' is given twice");
        state_ = State::metadata;
        return true;
      }
      tensor_ = {};
      tensor_.name = name;
      seen_ = {};
      state_ = State::tensor;
      return true;
    }
    if (state_ == State::metadata_keys) {
      key_ = name;
      return !header.metadata.contains(name) ||
             bad(fmt::format("metadata '{}' is given twice", name));
    }
    constexpr std::array<std::string_view, 3> known = {"dtype", "shape", "data_offsets"};
    const auto it = std::find(known.begin(), known.end(), name);
    if (it == known.end())
      return bad(
          fmt::format("tensor '{}' has an unknown key '{}'", tensor_.name, name.substr(0, 40)));
    field_ = static_cast<std::size_t>(it - known.begin());
    if (std::exchange(seen_[field_], true))
      return bad(fmt::format("tensor '{}' has '{}' twice", tensor_.name, name));
    return true;
  }
  bool string(string_t &text) override {
    if (state_ == State::metadata_keys) {
      header.metadata[key_] = text;
      return true;
    }
    if (state_ != State::keys || field_ != 0) return unexpected("a text");
    tensor_.dtype_name = text;
    return true;
  }
  bool start_array(std::size_t) override {
    if (state_ != State::keys || field_ == 0) return unexpected("an array");
    numbers_ = 0;
    state_ = State::numbers;
    return true;
  }
  bool number_unsigned(number_unsigned_t value) override {
    if (state_ != State::numbers) return unexpected("a number");
    if (value > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()))
      return bad(fmt::format("tensor '{}' has a number past 2^63", tensor_.name));
    if (field_ == 1) {
      if (numbers_ == SY_MAX_RANK)
        return bad(
            fmt::format("tensor '{}' has more than {} dimensions", tensor_.name, SY_MAX_RANK),
            ErrorCode::shape);
      tensor_.shape.push_back(static_cast<std::int64_t>(value));
    } else if (numbers_ < 2) {
      (numbers_ == 0 ? tensor_.begin : tensor_.end) = value;
    } else {
      return bad(fmt::format("tensor '{}' has more than two offsets", tensor_.name));
    }
    ++numbers_;
    return true;
  }
  bool end_array() override {
    state_ = State::keys;
    return field_ != 2 || numbers_ == 2 ||
           bad(fmt::format("tensor '{}' lacks an offset", tensor_.name));
  }

 private:
  enum class State { start, names, tensor, keys, numbers, metadata, metadata_keys, done };

  bool unexpected(std::string_view what) override {
    if (state_ == State::metadata || state_ == State::metadata_keys)
      return bad(fmt::format("metadata must be texts by name; {} was found", what));
    if (state_ == State::start) return bad(fmt::format("{} instead of an object", what));
    return bad(fmt::format("{} at an unexpected place in tensor '{}'", what, tensor_.name));
  }
  bool finish_tensor() {
    const std::string &name = tensor_.name;
    if (!seen_[0] || !seen_[1] || !seen_[2])
      return bad(fmt::format("tensor '{}' lacks dtype, shape or data_offsets", name));
    const Type *type = find_type(tensor_.dtype_name);
    if (type == nullptr) {
      std::vector<std::string_view> known;
      for (const Type &t : kTypes) known.push_back(t.name);
      return bad(
          fmt::format("tensor '{}' has the unknown dtype '{}'{}", name,
                      tensor_.dtype_name.substr(0, 40), did_you_mean(tensor_.dtype_name, known)),
          ErrorCode::dtype);
    }
    tensor_.dtype = type->dtype;
    std::int64_t bits = type->bits;
    bool empty = false;
    for (std::int64_t n : tensor_.shape) {
      empty = empty || n == 0;
      const auto product = checked_mul(bits, std::max<std::int64_t>(n, 1));
      if (!product) return bad(fmt::format("the size of tensor '{}' overflows", name));
      bits = *product;
    }
    if (empty) bits = 0;
    if (tensor_.end < tensor_.begin || bits % 8 != 0 ||
        tensor_.end - tensor_.begin != static_cast<std::uint64_t>(bits) / 8)
      return bad(fmt::format("tensor '{}' of {} {} needs {} bytes, its offsets are {} and {}", name,
                             type->name, shape_text(tensor_.shape), bits / 8, tensor_.begin,
                             tensor_.end));
    header.tensors.push_back(std::move(tensor_));
    return true;
  }

  State state_ = State::start;
  bool has_metadata_ = false;
  SafetensorInfo tensor_;
  std::array<bool, 3> seen_{};
  std::size_t field_ = 0, numbers_ = 0;
  std::string key_;
};

/// Takes `weight_map` and skips everything else.
class IndexEvents final : public Events {
 public:
  using Events::Events;
  std::map<std::string, std::string, std::less<>> weights;
  bool found = false;

  bool null() override { return skip("null"); }
  bool boolean(bool) override { return skip("a boolean"); }
  bool number_integer(number_integer_t) override { return skip("a number"); }
  bool number_unsigned(number_unsigned_t) override { return skip("a number"); }
  bool number_float(number_float_t, const string_t &) override { return skip("a number"); }
  bool start_object(std::size_t) override {
    if (inside_ && depth_ == 2) return unexpected("an object");
    if (depth_ == 1 && wanted_) inside_ = found = true;
    return deeper();
  }
  bool end_object() override {
    if (--depth_ == 1) inside_ = false;
    return true;
  }
  bool start_array(std::size_t) override {
    if (depth_ == 0 || inside_ || (depth_ == 1 && wanted_)) return unexpected("an array");
    return deeper();
  }
  bool end_array() override {
    --depth_;
    return true;
  }
  bool key(string_t &name) override {
    if (depth_ == 1) {
      wanted_ = name == "weight_map";
      if (wanted_ && found) return bad("'weight_map' is given twice");
    }
    if (inside_ && depth_ == 2) {
      if (weights.contains(name)) return bad(fmt::format("tensor '{}' is listed twice", name));
      key_ = name;
    }
    return true;
  }
  bool string(string_t &text) override {
    if (!inside_) return skip("a text");
    weights[key_] = text;
    return true;
  }

 private:
  bool deeper() { return ++depth_ <= 32 || bad("nested too deeply"); }
  bool skip(std::string_view what) {
    return (depth_ > 0 && !inside_ && !(depth_ == 1 && wanted_)) || unexpected(what);
  }
  bool unexpected(std::string_view what) override {
    return bad(fmt::format("{} where a mapping of tensor names to file names belongs", what));
  }
  int depth_ = 0;
  bool wanted_ = false, inside_ = false;
  std::string key_;
};

template <class E>
Status run(E &events, std::string_view json) {
  if (nlohmann::json::sax_parse(json.begin(), json.end(), &events)) return {};
  return tl::unexpected(events.error.value_or(Error{}));
}

}  // namespace

Result<SafetensorsHeader> parse_safetensors_header(const std::string &path, std::string_view json,
                                                   std::uint64_t data_bytes) {
  HeaderEvents events(path);
  if (auto s = run(events, json); !s) return tl::unexpected(s.error());
  auto &tensors = events.header.tensors;
  std::vector<std::string_view> names;
  for (const auto &t : tensors) names.push_back(t.name);
  std::sort(names.begin(), names.end());
  if (const auto twice = std::adjacent_find(names.begin(), names.end()); twice != names.end())
    return file_error(path, fmt::format("corrupt header: two tensors are named '{}'", *twice));
  std::sort(tensors.begin(), tensors.end(), [](const auto &a, const auto &b) {
    return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
  });
  std::uint64_t at = 0;
  for (const SafetensorInfo &t : tensors) {
    if (t.begin != at)
      return file_error(
          path, fmt::format("corrupt header: tensor '{}' begins at {}, which leaves {}", t.name,
                            t.begin, t.begin < at ? "an overlap" : "a hole"));
    at = t.end;
  }
  if (at > data_bytes)
    return file_error(
        path, fmt::format("truncated: the tensors need {} bytes, {} are there", at, data_bytes));
  if (at < data_bytes)
    return file_error(path,
                      fmt::format("corrupt: {} bytes follow the last tensor", data_bytes - at));
  return std::move(events.header);
}

std::string_view safetensors_dtype_name(DType dtype) noexcept {
  for (const Type &t : kTypes)
    if (t.dtype && same(*t.dtype, dtype)) return t.name;
  return {};
}

Result<std::map<std::string, std::string, std::less<>>> parse_shard_index(const std::string &path,
                                                                          std::string_view json) {
  IndexEvents events(path);
  if (auto s = run(events, json); !s) return tl::unexpected(s.error());
  if (!events.found) return file_error(path, "has no 'weight_map'");
  if (events.weights.empty()) return file_error(path, "its 'weight_map' is empty");
  return std::move(events.weights);
}

}  // namespace switchyard
