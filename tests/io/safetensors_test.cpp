// SPDX-License-Identifier: Apache-2.0
#include "io/safetensors.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include "io_test_util.hpp"

namespace switchyard {
namespace {

using test::expect_error;
using test::expect_golden;
using test::expect_same;
using test::Folder;
using test::golden;
using test::kGoldens;
using test::read_bytes;
using test::write_bytes;

std::string file_of(const std::string &json, const std::string &data) {
  const std::uint64_t n = json.size();
  return std::string(reinterpret_cast<const char *>(&n), 8) + json + data;
}
std::string tensor(const char *name, const char *dtype, const char *shape, const char *offsets) {
  return fmt::format(R"("{}":{{"dtype":"{}","shape":{},"data_offsets":{}}})", name, dtype, shape,
                     offsets);
}

TEST(Safetensors, ReadsWhatOthersWrite) {
  auto file = SafetensorsReader::open(kGoldens + "small.safetensors");
  ASSERT_TRUE(file.has_value()) << file.error().text();
  EXPECT_EQ(file->tensors().size(), 5u);
  EXPECT_EQ(file->metadata(), (SafetensorsMetadata{{"format", "np"}, {"note", "caf\u00e9"}}));
  expect_golden(file->read("layer.weight"), dtypes::f32, {2, 3});
  expect_golden(file->read("layer.half"), dtypes::f16, {3});
  expect_golden(file->read("layer.mask"), dtypes::boolean, {5});
  expect_golden(file->read("step"), dtypes::i64, {});
  expect_golden(file->read("none"), dtypes::u8, {0, 4});
  expect_error(file->read("layer.wieght"), ErrorCode::usage, "did you mean 'layer.weight'?");
}

TEST(Safetensors, RoundTripsEveryType) {
  Folder f;
  const std::string path = f / "a.safetensors";
  std::vector<DType> types = test::kAllTypes;
  types.push_back(dtypes::bf16);
  std::vector<Tensor> arrays;
  std::vector<NamedTensor> named;
  for (DType t : types) arrays.push_back(golden(t, {3, 5}));
  for (std::size_t i = 0; i < types.size(); ++i) named.push_back({to_string(types[i]), arrays[i]});
  const std::vector<std::int64_t> shape = {5, 3}, strides = {1, 5};
  const TensorView turned(arrays[1].data(), dtypes::f32, shape, strides);
  named.push_back({"turned", turned});
  const Tensor scalar = golden(dtypes::f32, {}), empty = golden(dtypes::i16, {2, 0});
  named.push_back({"scalar", scalar});
  named.push_back({"empty", empty});
  ASSERT_TRUE(write_safetensors(path, named, {{"format", "pt"}, {"x", "\"\\\n"}}).has_value());
  auto file = SafetensorsReader::open(path);
  ASSERT_TRUE(file.has_value()) << file.error().text();
  EXPECT_EQ(file->metadata().at("x"), "\"\\\n");
  for (const auto &[name, view] : named) {
    SCOPED_TRACE(name);
    expect_same(file->read(name), view);
  }
  // Laid out by falling size, then by name: every tensor is aligned to its own element.
  const std::uint64_t header =
      8 + *reinterpret_cast<const std::uint64_t *>(read_bytes(path).data());
  EXPECT_EQ(header % 8, 0u);
  for (const auto &info : file->tensors()) {
    EXPECT_EQ(info.begin % size_of(*info.dtype), 0u) << info.name;
  }
  // The same content in another order gives the same bytes.
  const std::string bytes = read_bytes(path);
  std::reverse(named.begin(), named.end());
  ASSERT_TRUE(write_safetensors(path, named, {{"format", "pt"}, {"x", "\"\\\n"}}).has_value());
  EXPECT_EQ(read_bytes(path), bytes);
}

TEST(Safetensors, WriterHoldsToWhatWasAnnounced) {
  Folder f;
  const std::string path = f / "a.safetensors";
  const Tensor a = golden(dtypes::f32, {2}), b = golden(dtypes::f32, {3});
  {
    auto w = SafetensorsWriter::create(path, {{"a", dtypes::f32, {2}}, {"b", dtypes::f32, {3}}});
    ASSERT_TRUE(w.has_value());
    EXPECT_EQ(w->write("c", a).error().code, ErrorCode::invalid_argument);
    EXPECT_EQ(w->write("b", a).error().code, ErrorCode::invalid_argument);
    EXPECT_EQ(w->write("b", golden(dtypes::i32, {3})).error().code, ErrorCode::invalid_argument);
    ASSERT_TRUE(w->write("b", b).has_value());
    EXPECT_EQ(w->write("b", b).error().code, ErrorCode::invalid_argument);
    EXPECT_EQ(w->finish().error().code, ErrorCode::invalid_argument);
  }
  EXPECT_EQ(f.files(), 0u);
  using Specs = std::vector<SafetensorSpec>;
  for (const Specs &specs :
       {Specs{{"a", dtypes::f32, {2}}, {"a", dtypes::f32, {2}}}, Specs{{"", dtypes::f32, {2}}},
        Specs{{"__metadata__", dtypes::f32, {2}}}, Specs{{"\xff", dtypes::f32, {2}}}}) {
    expect_error(SafetensorsWriter::create(path, specs), ErrorCode::invalid_argument, "tensor");
  }
  expect_error(SafetensorsWriter::create(path, {}, {{"k", "\xff"}}), ErrorCode::invalid_argument,
               "UTF-8");
  expect_error(SafetensorsWriter::create(path, {{"a", dtypes::f32, {1ll << 62, 4}}}),
               ErrorCode::overflow, "too large");
  EXPECT_EQ(f.files(), 0u);
}

TEST(Safetensors, RefusesHostileHeaders) {
  Folder f;
  const std::string path = f / "a.safetensors", eight(8, '\0');
  const auto refused = [&](const std::string &bytes, const std::string &part,
                           ErrorCode code = ErrorCode::io) {
    SCOPED_TRACE(part);
    write_bytes(path, bytes);
    expect_error(SafetensorsReader::open(path), code, part, path);
  };
  const auto one = [&](const std::string &entry, const std::string &part,
                       ErrorCode code = ErrorCode::io) {
    refused(file_of(fmt::format("{{{}}}", entry), eight), part, code);
  };
  refused("", "too short");
  refused(std::string(8, '\xff') + "{}", "impossible");
  refused(file_of("{}", "").substr(0, 9), "too short");
  std::string huge = file_of("{}", "");
  huge[3] = 1;  // a header of 16 MB
  refused(huge, "impossible");
  refused(file_of("[]", ""), "begin with '{'");
  refused(file_of(" {}", ""), "begin with '{'");
  refused(file_of("{} x", ""), "not valid JSON");
  refused(file_of("{\"a\":", ""), "not valid JSON");
  refused(file_of("{\"\xff\":1}", ""), "not valid JSON");
  one(tensor("a", "F32", "[2]", "[0,8]") + "," + tensor("a", "F32", "[2]", "[0,8]"), "two tensors");
  one(tensor("a", "F32", "[1]", "[0,4]") + "," + tensor("b", "F32", "[2]", "[0,8]"), "overlap");
  one(tensor("a", "F32", "[1]", "[0,4]") + "," + tensor("b", "I16", "[1]", "[6,8]"), "hole");
  one(tensor("a", "F32", "[1]", "[4,8]"), "hole");
  one(tensor("a", "F32", "[1]", "[0,4]"), "4 bytes follow");
  one(tensor("a", "F32", "[4]", "[0,16]"), "truncated");
  one(tensor("a", "F32", "[3]", "[0,8]"), "needs 12 bytes");
  one(tensor("a", "F32", "[2]", "[8,0]"), "needs 8 bytes");
  one(tensor("a", "F31", "[2]", "[0,8]"), "unknown dtype 'F31'; did you mean 'F32'?",
      ErrorCode::dtype);
  one(tensor("a", "F4", "[3]", "[0,1]"), "needs 1 bytes");  // a nibble would be left
  one(tensor("a", "F32", "[9223372036854775807]", "[0,8]"), "overflows");
  one(tensor("a", "F32", "[4294967296,4294967296]", "[0,8]"), "overflows");
  one(tensor("a", "F32", "[0,9223372036854775807]", "[0,0]"), "overflows");
  one(tensor("a", "F32", "[9223372036854775808]", "[0,8]"), "past 2^63");
  one(tensor("a", "F32", "[99999999999999999999999999]", "[0,8]"), "fraction");
  one(tensor("a", "F32", "[2]", "[0,18446744073709551615]"), "past 2^63");
  one(tensor("a", "F32", "[-2]", "[0,8]"), "negative number");
  one(tensor("a", "F32", "[2.0]", "[0,8]"), "fraction");
  one(tensor("a", "F32", "[1,1,1,1,1,1,1,1,2]", "[0,8]"), "8 dimensions", ErrorCode::shape);
  one(tensor("a", "F32", "[2]", "[0,8,9]"), "more than two offsets");
  one(tensor("a", "F32", "[2]", "[0]"), "lacks an offset");
  one(tensor("a", "F32", "[[2]]", "[0,8]"), "an array");
  one(tensor("a", "F32", "\"2\"", "[0,8]"), "a text");
  one("\"a\":{\"dtype\":\"F32\",\"shape\":[2]}", "lacks dtype");
  one("\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}", "twice");
  one("\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8],\"x\":1}", "unknown key 'x'");
  one("\"a\":[]", "an array");
  one("\"a\":null", "null");
  one("\"a\":{\"dtype\":{},\"shape\":[2],\"data_offsets\":[0,8]}", "an object");
  one("\"__metadata__\":{\"a\":1}", "metadata must be texts");
  one("\"__metadata__\":{\"a\":{}}", "metadata must be texts");
  one("\"__metadata__\":[]", "metadata must be texts");
  one("\"__metadata__\":{\"a\":\"1\",\"a\":\"2\"}", "given twice");
  one("\"__metadata__\":{},\"__metadata__\":{}", "given twice");
  std::string deep;
  for (int i = 0; i < 200'000; ++i) deep += "{\"a\":";
  refused(file_of(deep, ""), "unknown key 'a'");
  refused(file_of("{\"a\":{\"shape\":" + std::string(200'000, '['), ""), "an array");
}

TEST(Safetensors, ListsWhatItCannotRead) {
  Folder f;
  write_bytes(f / "a.safetensors", file_of("{" + tensor("a", "F8_E4M3", "[2]", "[0,2]") + "," +
                                               tensor("b", "F4", "[2,2]", "[2,4]") + "}   ",
                                           std::string(4, 'x')));
  auto file = SafetensorsReader::open(f / "a.safetensors");
  ASSERT_TRUE(file.has_value()) << file.error().text();
  EXPECT_FALSE(file->find("a")->dtype.has_value());
  expect_error(file->read("a"), ErrorCode::dtype, "F8_E4M3");
}

/// Old writers did not pad the header; the data are copied, so nothing is read unaligned.
TEST(Safetensors, ReadsMisalignedData) {
  Folder f;
  const float values[2] = {1.5f, -2.f};
  const std::string json =
      "{" + tensor("a", "F32", "[2]", "[1,9]") + "," + tensor("b", "U8", "[1]", "[0,1]") + "} ";
  std::string data(1, 'x');
  data.append(reinterpret_cast<const char *>(values), sizeof values);
  write_bytes(f / "a.safetensors", file_of(json, data));
  auto a = SafetensorsReader::open(f / "a.safetensors")->read("a");
  ASSERT_TRUE(a.has_value()) << a.error().text();
  EXPECT_EQ(a->data<float>()[1], -2.f);
}

TEST(Safetensors, BoolsAreChecked) {
  Folder f;
  write_bytes(f / "a.safetensors",
              file_of("{" + tensor("a", "BOOL", "[2]", "[0,2]") + "}", "\1\2"));
  expect_error(SafetensorsReader::open(f / "a.safetensors")->read("a"), ErrorCode::io, "bool");
}

TEST(Safetensors, TruncationAfterOpeningIsAnError) {
  Folder f;
  const std::string path = f / "a.safetensors";
  const Tensor big = golden(dtypes::f32, {100'000});
  const NamedTensor named[] = {{"a", big}};
  ASSERT_TRUE(write_safetensors(path, named).has_value());
  auto file = SafetensorsReader::open(path);
  ASSERT_EQ(::truncate(path.c_str(), 1000), 0);
  expect_error(file->read("a"), ErrorCode::io, "truncated while being read", path);
}

class Shards : public testing::Test {
 protected:
  void SetUp() override {
    const NamedTensor first[] = {{"a", a_}}, second[] = {{"b", b_}, {"c", a_}};
    ASSERT_TRUE(write_safetensors(f_ / "model-1.safetensors", first).has_value());
    ASSERT_TRUE(write_safetensors(f_ / "model-2.safetensors", second).has_value());
  }
  std::string index(const std::string &text) {
    write_bytes(path_, text);
    return path_;
  }
  std::string map(const std::string &text) { return index("{\"weight_map\":{" + text + "}}"); }
  Folder f_;
  const Tensor a_ = golden(dtypes::f32, {2, 2}), b_ = golden(dtypes::bf16, {3});
  const std::string path_ = f_ / "model.safetensors.index.json";
};

TEST_F(Shards, AreOneModel) {
  auto model = SafetensorsModel::open(index(
      R"({"metadata": {"total_size": 24, "deep": [1, {"x": [null, true, -1, 0.5]}]},
          "weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}, "more": "x"})"));
  ASSERT_TRUE(model.has_value()) << model.error().text();
  EXPECT_EQ(model->names(), (std::vector<std::string>{"a", "b"}));
  expect_same(model->read("a"), a_);
  expect_same(model->read("b"), b_);
  expect_error(model->read("c"), ErrorCode::usage, "no tensor 'c'");  // not in the map
  auto single = SafetensorsModel::open(f_ / "model-2.safetensors");
  ASSERT_TRUE(single.has_value());
  EXPECT_EQ(single->names().size(), 2u);
}

TEST_F(Shards, EscapesAndLiesAreRefused) {
  const auto refused = [&](const std::string &path, const std::string &part) {
    SCOPED_TRACE(part);
    expect_error(SafetensorsModel::open(path), ErrorCode::io, part);
  };
  for (const char *name : {"../model-1.safetensors", "/etc/passwd", "sub/model-1.safetensors", "..",
                           ".", "", "./model-1.safetensors"})
    refused(map(std::string("\"a\":\"") + name + "\""), "not a file beside the index");
  refused(map(R"("a":"model-1.safetensors\u0000")"), "not a file beside the index");
  refused(map(R"("a":"missing.safetensors")"), "No such file");
  refused(map(R"("b":"model-1.safetensors")"), "which lacks it");
  refused(map(R"("a":"model-1.safetensors","a":"model-2.safetensors")"), "listed twice");
  refused(map(R"("a":1)"), "a number");
  refused(map(R"("a":{})"), "an object");
  refused(map(R"("a":[])"), "an array");
  refused(map(""), "is empty");
  refused(index("{}"), "no 'weight_map'");
  refused(index("[]"), "an array");
  refused(index("3"), "a number");
  refused(index(R"({"weight_map":"x"})"), "a text");
  refused(index(R"({"weight_map":{"a":"x"},"weight_map":{}})"), "twice");
  refused(index("{\"x\":" + std::string(100'000, '[')), "too deeply");
  refused(index("{\"x\":"), "not valid JSON");
}

}  // namespace
}  // namespace switchyard
