// SPDX-License-Identifier: Apache-2.0
#include "io/gguf.hpp"

#include "io_test_util.hpp"

namespace switchyard {
namespace {

using test::expect_error;
using test::Folder;
using test::write_bytes;

template <class T>
void put(std::string &out, T value) {
  out.append(reinterpret_cast<const char *>(&value), sizeof value);
}
void put_text(std::string &out, const std::string &text) {
  put<std::uint64_t>(out, text.size());
  out += text;
}

/// A file by hand, so that every field can be wrong.
struct Parts {
  std::string magic = "GGUF";
  std::uint32_t version = 3;
  std::optional<std::uint64_t> tensors, entries;
  std::uint64_t alignment = 32;
  std::string entry;  ///< one encoded entry
  struct One {
    std::string name;
    std::vector<std::uint64_t> dims;
    std::uint32_t type = 0;
    std::uint64_t offset = 0;
  };
  std::vector<One> list;
  std::size_t data = 64;

  std::string bytes() const {
    std::string out = magic;
    put(out, version);
    put<std::uint64_t>(out, tensors.value_or(list.size()));
    put<std::uint64_t>(out, entries.value_or(entry.empty() ? 0 : 1));
    out += entry;
    for (const One &t : list) {
      put_text(out, t.name);
      put(out, static_cast<std::uint32_t>(t.dims.size()));
      for (std::uint64_t n : t.dims) put(out, n);
      put(out, t.type);
      put(out, t.offset);
    }
    out.append((alignment - out.size() % alignment) % alignment, '\0');
    for (std::size_t i = 0; i < data; ++i) out += static_cast<char>(i);
    return out;
  }
};

class Gguf : public testing::Test {
 protected:
  Result<GgufReader> open(const std::string &bytes) {
    write_bytes(path_, bytes);
    return GgufReader::open(path_);
  }
  Folder folder_;
  std::string path_ = folder_ / "a.gguf";
};

std::string alignment_entry(std::uint32_t value) {
  std::string e;
  put_text(e, "general.alignment");
  put<std::uint32_t>(e, 4);
  put(e, value);
  return e;
}

TEST_F(Gguf, ReadsByHand) {
  Parts p;
  p.list = {{"a", {4, 2}, 0, 0}, {"b", {32}, 2, 32}};
  auto file = open(p.bytes());
  ASSERT_TRUE(file.has_value()) << file.error().text();
  ASSERT_EQ(file->tensors().size(), 2u);
  const GgufTensor *a = file->find("a"), *b = file->find("b");
  ASSERT_NE(a, nullptr);
  EXPECT_EQ(a->shape, (std::vector<std::int64_t>{2, 4}));
  EXPECT_EQ(a->bytes, 32u);
  EXPECT_EQ(b->type->name, "Q4_0");
  EXPECT_EQ(b->bytes, 18u);
  std::array<std::byte, 2> bytes{};
  ASSERT_TRUE(file->read(*b, 16, bytes).has_value());
  EXPECT_EQ(std::to_integer<int>(bytes[0]), 48);
  EXPECT_FALSE(file->read(*b, 17, bytes).has_value());
  EXPECT_EQ(file->find("c"), nullptr);
}

TEST_F(Gguf, Alignment) {
  Parts p;
  p.list = {{"a", {4}, 0, 0}, {"b", {4}, 0, 64}};
  p.alignment = 64;
  p.data = 128;
  p.entry = alignment_entry(64);
  auto file = open(p.bytes());
  ASSERT_TRUE(file.has_value()) << file.error().text();
  EXPECT_EQ(file->alignment(), 64u);
  for (std::uint32_t wrong : {0u, 3u, 48u}) {
    p.entry = alignment_entry(wrong);
    expect_error(open(p.bytes()), ErrorCode::io, "not a power of two", path_);
  }
  p.entry = alignment_entry(1u << 31);  // the data would begin past the end
  expect_error(open(p.bytes()), ErrorCode::io, "ends before the data", path_);
}

TEST_F(Gguf, RefusesWrongHeaders) {
  Parts p;
  p.list = {{"a", {4}, 0, 0}};
  const auto with = [&](auto change) {
    Parts q = p;
    change(q);
    return open(q.bytes());
  };
  expect_error(with([](Parts &q) { q.magic = "GGML"; }), ErrorCode::io, "not a GGUF file");
  expect_error(with([](Parts &q) { q.version = 1; }), ErrorCode::io, "version 1");
  expect_error(with([](Parts &q) { q.version = 0x03000000; }), ErrorCode::io, "big-endian");
  for (std::uint64_t count : {std::uint64_t{1} << 63, ~std::uint64_t{0}, std::uint64_t{1} << 40}) {
    expect_error(with([&](Parts &q) { q.tensors = count; }), ErrorCode::io, "cannot be in");
    expect_error(with([&](Parts &q) { q.entries = count; }), ErrorCode::io, "cannot be in");
  }
  expect_error(open(""), ErrorCode::io, "truncated");
  expect_error(open("GGUF"), ErrorCode::io, "truncated");
}

TEST_F(Gguf, RefusesWrongTensors) {
  Parts p;
  const auto with = [&](std::vector<Parts::One> list) {
    p.list = std::move(list);
    return open(p.bytes());
  };
  constexpr std::uint64_t huge = std::uint64_t{1} << 63;
  expect_error(with({{"a", {1, 1, 1, 1, 1}}}), ErrorCode::shape, "5 dimensions");
  expect_error(with({{"a", {huge}}}), ErrorCode::io, "a dimension of 9223372036854775808");
  expect_error(with({{"a", {huge - 1}}}), ErrorCode::io, "overflows");
  expect_error(with({{"a", {huge / 2, 2}}}), ErrorCode::io, "overflows");
  expect_error(with({{"a", {huge - 1, 0}}}), ErrorCode::io, "overflows");
  expect_error(with({{"a", {33}, 2}}), ErrorCode::io, "no multiple of Q4_0's block");
  expect_error(with({{"a", {4}, 99}}), ErrorCode::dtype, "unknown ggml type 99");
  expect_error(with({{"a", {4}, 4}}), ErrorCode::dtype, "unknown ggml type 4");
  expect_error(with({{"a", {17}}}), ErrorCode::io, "does not fit into 64 bytes");
  expect_error(with({{"a", {4}, 0, huge}}), ErrorCode::io, "leaves a hole");
  expect_error(with({{"a", {4}, 0, 16}}), ErrorCode::io, "not aligned");
  expect_error(with({{"a", {4}, 0, 32}}), ErrorCode::io, "leaves a hole");
  expect_error(with({{"a", {4}}, {"b", {4}, 0, 0}}), ErrorCode::io, "overlaps");
  expect_error(with({{"a", {4}}, {"b", {4}, 0, 20}}), ErrorCode::io, "not aligned");
  expect_error(with({{"a", {4}}, {"a", {4}, 0, 32}}), ErrorCode::io, "two tensors are named 'a'");
  expect_error(with({{"", {4}}}), ErrorCode::io, "name of 0 bytes");
  expect_error(with({{"\xff", {4}}}), ErrorCode::io, "not UTF-8");
  expect_error(with({{std::string(70'000, 'a'), {4}}}), ErrorCode::io, "name of 70000 bytes");
}

TEST_F(Gguf, RefusesWrongValues) {
  Parts p;
  const auto with = [&](std::uint32_t kind, const std::string &value) {
    p.entry.clear();
    put_text(p.entry, "k");
    put(p.entry, kind);
    p.entry += value;
    return open(p.bytes());
  };
  const auto array = [](std::uint32_t kind, std::uint64_t count) {
    std::string a;
    put(a, kind);
    put(a, count);
    return a;
  };
  EXPECT_TRUE(with(0, "x").has_value());
  expect_error(with(13, "x"), ErrorCode::io, "unknown kind 13");
  std::string text;
  put<std::uint64_t>(text, ~std::uint64_t{0});
  expect_error(with(8, text), ErrorCode::io, "truncated or corrupt");
  expect_error(with(9, array(13, 1)), ErrorCode::io, "array of the unknown kind 13");
  expect_error(with(9, array(12, std::uint64_t{1} << 61)), ErrorCode::io, "an array of");
  expect_error(with(9, array(0, std::uint64_t{1} << 40)), ErrorCode::io, "truncated or corrupt");
  expect_error(with(9, array(8, std::uint64_t{1} << 40)), ErrorCode::io, "an array of");
  std::string deep;
  for (int i = 0; i < 8; ++i) deep += array(9, 1);
  expect_error(with(9, deep), ErrorCode::io, "too deeply");
  p.entry = alignment_entry(32) + alignment_entry(32);
  p.entries = 2;
  expect_error(open(p.bytes()), ErrorCode::io, "given twice");
}

TEST_F(Gguf, CutWhileOpenIsAnError) {
  Parts p;
  p.list = {{"a", {16}, 0, 0}};
  auto file = open(p.bytes());
  ASSERT_TRUE(file.has_value());
  std::filesystem::resize_file(path_, 100);
  std::array<std::byte, 64> out{};
  expect_error(file->read(*file->find("a"), 0, out), ErrorCode::io, "truncated while", path_);
}

TEST_F(Gguf, LayoutIsReadBack) {
  std::string array;
  put<std::uint32_t>(array, 8);
  put<std::uint64_t>(array, 2);
  put_text(array, "one");
  put_text(array, "");
  const std::vector<GgufEntry> entries = {{"general.architecture", GgufValue::of_text("bert")},
                                          {"general.alignment", GgufValue::of_u32(64)},
                                          {"version", GgufValue::of_u32(7)},
                                          {"list", {GgufKind::array, array}}};
  const std::vector<GgufSpec> specs = {{"w", find_ggml_type("q8_0"), {3, 64}},
                                       {"b", find_ggml_type(dtypes::f32), {5}},
                                       {"e", find_ggml_type(dtypes::bf16), {0, 4}},
                                       {"c", find_ggml_type(dtypes::f16), {2, 1, 2, 3}}};
  auto layout = gguf_layout(path_, entries, specs);
  ASSERT_TRUE(layout.has_value()) << layout.error().text();
  EXPECT_EQ(layout->header.size() % 32, 0u);
  std::string bytes = layout->header;
  bytes.resize(layout->size, 'x');
  for (std::size_t i = 0; i < specs.size(); ++i)
    if (i != 2) bytes[layout->offsets[i]] = static_cast<char>('0' + i);
  auto file = open(bytes);
  ASSERT_TRUE(file.has_value()) << file.error().text();
  EXPECT_EQ(file->alignment(), 32u);
  EXPECT_EQ(file->value("general.alignment"), nullptr);
  EXPECT_EQ(file->value("general.architecture")->text(), "bert");
  EXPECT_EQ(file->value("version")->unsigned_integer(), 7u);
  EXPECT_EQ(file->value("version")->text(), std::nullopt);
  EXPECT_EQ(file->value("list")->bytes, array);
  ASSERT_EQ(file->tensors().size(), specs.size());
  for (std::size_t i = 0; i < specs.size(); ++i) {
    const GgufTensor &t = file->tensors()[i];
    EXPECT_EQ(t.name, specs[i].name);
    EXPECT_EQ(t.type, specs[i].type);
    EXPECT_EQ(t.shape, specs[i].shape);
    if (t.bytes == 0) continue;
    std::byte first{};
    ASSERT_TRUE(file->read(t, 0, std::span(&first, 1)).has_value());
    EXPECT_EQ(std::to_integer<char>(first), static_cast<char>('0' + i));
  }
}

TEST_F(Gguf, LayoutRefuses) {
  const GgmlType *f32 = find_ggml_type(dtypes::f32);
  const auto layout = [&](std::vector<GgufSpec> specs, std::vector<GgufEntry> entries = {}) {
    return gguf_layout(path_, entries, specs);
  };
  constexpr auto wrong = ErrorCode::invalid_argument;
  expect_error(layout({{"", f32, {1}}}), wrong, "another name", path_);
  expect_error(layout({{std::string(64, 'n'), f32, {1}}}), wrong, "another name", path_);
  EXPECT_TRUE(layout({{std::string(63, 'n'), f32, {1}}}).has_value());
  expect_error(layout({{"a", f32, {1}}, {"a", f32, {1}}}), wrong, "another name", path_);
  expect_error(layout({{"a", f32, {}}}), ErrorCode::shape, "1 to 4 dimensions", path_);
  expect_error(layout({{"a", f32, {1, 1, 1, 1, 1}}}), ErrorCode::shape, "1 to 4", path_);
  expect_error(layout({{"a", find_ggml_type("q4_0"), {2, 33}}}), ErrorCode::overflow, "Q4_0",
               path_);
  const GgufValue one = GgufValue::of_u32(1);
  expect_error(layout({}, {{"k", one}, {"k", one}}), wrong, "given twice", path_);
}

TEST(GgmlTypes, Table) {
  for (const GgmlType &t : ggml_types()) {
    EXPECT_EQ(find_ggml_type(t.id), &t);
    EXPECT_EQ(find_ggml_type(t.name), &t);
    EXPECT_GT(t.block, 0);
    EXPECT_GT(t.bytes, 0);
  }
  EXPECT_EQ(find_ggml_type("q4_k")->id, 12u);
  EXPECT_EQ(find_ggml_type(dtypes::boolean), nullptr);
  EXPECT_EQ(find_ggml_type(dtypes::u8), nullptr);
}

}  // namespace
}  // namespace switchyard
