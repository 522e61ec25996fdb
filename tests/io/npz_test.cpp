// SPDX-License-Identifier: Apache-2.0
#include "io/npz.hpp"

#include <zlib.h>

#include "io/zip_format.hpp"
#include "io_test_util.hpp"

namespace switchyard {
namespace {

using test::expect_error;
using test::expect_golden;
using test::expect_same;
using test::Folder;
using test::golden;
using test::kAllTypes;
using test::kGoldens;
using test::read_bytes;
using test::write_bytes;

TEST(Npz, ReadsNumpysArchives) {
  for (const char *name : {"stored.npz", "deflated.npz", "zip64.npz"}) {
    SCOPED_TRACE(name);
    auto npz = NpzReader::open(kGoldens + name);
    ASSERT_TRUE(npz.has_value()) << npz.error().text();
    ASSERT_EQ(npz->entries().size(), 5u);
    EXPECT_TRUE(npz->has("points"));
    EXPECT_FALSE(npz->has("points.npy"));
    expect_golden(npz->read("points"), dtypes::f32, {3, 4});
    expect_golden(npz->read("labels"), dtypes::i32, {5});
    expect_golden(npz->read("fortran"), dtypes::f64, {3, 2});
    expect_golden(npz->read("none"), dtypes::f32, {0});
    EXPECT_EQ(npz->read_text("meta").value(), R"({"format": "q4_0"})");
    expect_error(npz->read("meta"), ErrorCode::dtype, "text");
    expect_error(npz->read_text("points"), ErrorCode::dtype, "does not hold one text");
    expect_error(npz->read("point"), ErrorCode::usage, "did you mean 'points'?");
  }
}

TEST(Npz, SaysWhatCannotBeRead) {
  auto npz = NpzReader::open(kGoldens + "bzip2.npz");
  ASSERT_TRUE(npz.has_value()) << npz.error().text();
  expect_error(npz->read("points"), ErrorCode::unsupported, "zip method 12");
  expect_error(NpzReader::open(kGoldens + "c_f4.npy"), ErrorCode::io, "directory is missing");
}

/// All settings of the writer, among them zip64 fields everywhere.
TEST(Npz, RoundTrips) {
  Folder f;
  const std::string path = f / "a.npz";
  for (const bool deflate : {false, true})
    for (const std::uint64_t zip64_from : {0xffffffffull, 0ull, 200ull}) {
      SCOPED_TRACE(std::to_string(deflate) + " " + std::to_string(zip64_from));
      auto npz = NpzWriter::create(path, {.deflate = deflate, .zip64_from = zip64_from});
      ASSERT_TRUE(npz.has_value());
      for (DType t : kAllTypes) ASSERT_TRUE(npz->add(to_string(t), golden(t, {2, 60})).has_value());
      const Tensor big = golden(dtypes::f32, {1000, 300});
      ASSERT_TRUE(npz->add("big", big).has_value());
      const std::vector<std::int64_t> shape = {300, 1000}, strides = {1, 300};
      const TensorView turned(big.data(), dtypes::f32, shape, strides);
      ASSERT_TRUE(npz->add("turned", turned).has_value());
      ASSERT_TRUE(npz->add("empty", golden(dtypes::f32, {0, 2})).has_value());
      ASSERT_TRUE(npz->add("gr\u00fc\u00dfe/x", golden(dtypes::u8, {})).has_value());
      ASSERT_TRUE(npz->add_text("meta", "caf\u00e9 \U0001d11e {}").has_value());
      ASSERT_TRUE(npz->add_text("nothing", "").has_value());
      EXPECT_FALSE(std::filesystem::exists(path));
      ASSERT_TRUE(npz->finish().has_value());

      auto back = NpzReader::open(path);
      ASSERT_TRUE(back.has_value()) << back.error().text();
      for (DType t : kAllTypes) expect_golden(back->read(to_string(t)), t, {2, 60});
      expect_same(back->read("big"), big);
      expect_same(back->read("turned"), turned);
      expect_golden(back->read("empty"), dtypes::f32, {0, 2});
      expect_golden(back->read("gr\u00fc\u00dfe/x"), dtypes::u8, {});
      EXPECT_EQ(back->read_text("meta").value(), "caf\u00e9 \U0001d11e {}");
      EXPECT_EQ(back->read_text("nothing").value(), "");
      std::filesystem::remove(path);
    }
}

TEST(Npz, EmptyArchive) {
  Folder f;
  auto npz = NpzWriter::create(f / "a.npz");
  ASSERT_TRUE(npz->finish().has_value());
  auto back = NpzReader::open(f / "a.npz");
  ASSERT_TRUE(back.has_value()) << back.error().text();
  EXPECT_TRUE(back->entries().empty());
}

/// An archive of one entry "a.npy", by hand.
std::string archive(std::uint16_t method, const std::string &payload, std::uint32_t size,
                    std::uint32_t crc) {
  const auto packed = static_cast<std::uint32_t>(payload.size());
  std::string out;
  zip::put(out, zip::kLocal, std::uint16_t{20}, std::uint16_t{0}, method, std::uint32_t{0}, crc,
           packed, size, std::uint16_t{5}, std::uint16_t{0});
  out += "a.npy" + payload;
  const auto start = static_cast<std::uint32_t>(out.size());
  zip::put(out, zip::kCentral, std::uint16_t{20}, std::uint16_t{20}, std::uint16_t{0}, method,
           std::uint32_t{0}, crc, packed, size, std::uint16_t{5}, std::uint16_t{0},
           std::uint16_t{0}, std::uint16_t{0}, std::uint16_t{0}, std::uint32_t{0},
           std::uint32_t{0});
  out += "a.npy";
  const auto bytes = static_cast<std::uint32_t>(out.size()) - start;
  zip::put(out, zip::kEnd, std::uint32_t{0}, std::uint16_t{1}, std::uint16_t{1}, bytes, start,
           std::uint16_t{0});
  return out;
}

std::uint32_t crc_of(const std::string &data) {
  return static_cast<std::uint32_t>(
      crc32(0, reinterpret_cast<const Bytef *>(data.data()), static_cast<uInt>(data.size())));
}

std::string deflated(const std::string &data) {
  std::string out(data.size() + 100, '\0');
  z_stream stream{};
  deflateInit2(&stream, 9, Z_DEFLATED, -MAX_WBITS, 8, Z_DEFAULT_STRATEGY);
  stream.next_in = reinterpret_cast<Bytef *>(const_cast<char *>(data.data()));
  stream.avail_in = static_cast<uInt>(data.size());
  stream.next_out = reinterpret_cast<Bytef *>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

TEST(Npz, ReadsAndWritesNumpysTexts) {
  Folder f;
  for (const auto &[name, want] : {std::pair{"text.npy", "caf\u00e9 \U0001d11e"},
                                   {"big_text.npy", "caf\u00e9"},
                                   {"bytes.npy", "plain"}}) {
    const std::string data = read_bytes(kGoldens + name);
    write_bytes(f / "a.npz",
                archive(zip::kStored, data, static_cast<std::uint32_t>(data.size()), crc_of(data)));
    auto npz = NpzReader::open(f / "a.npz");
    ASSERT_TRUE(npz.has_value()) << npz.error().text();
    EXPECT_EQ(npz->read_text("a").value(), want);
  }
  auto npz = NpzWriter::create(f / "b.npz");
  ASSERT_TRUE(npz->add_text("t", "caf\u00e9 \U0001d11e").has_value());
  ASSERT_TRUE(npz->finish().has_value());
  // The same bytes as in NumPy's own file.
  EXPECT_NE(read_bytes(f / "b.npz").find(read_bytes(kGoldens + "text.npy")), std::string::npos);
}

TEST(Npz, RefusesBadKeys) {
  Folder f;
  auto npz = NpzWriter::create(f / "a.npz");
  const Tensor array = golden(dtypes::f32, {2});
  ASSERT_TRUE(npz->add("a", array).has_value());
  for (const std::string &key : {std::string("a"), std::string(), std::string("\xff"),
                                 std::string("a\0b", 3), std::string(5000, 'k')}) {
    const Status s = npz->add(key, array);
    ASSERT_FALSE(s.has_value());
    EXPECT_EQ(s.error().code, ErrorCode::invalid_argument);
  }
  EXPECT_EQ(npz->add("b", golden(dtypes::bf16, {2})).error().code, ErrorCode::dtype);
  EXPECT_EQ(npz->add_text("c", "\xff").error().code, ErrorCode::invalid_argument);
}

/// Changes fields of a sound archive of two entries.
class HostileNpz : public testing::Test {
 protected:
  void SetUp() override {
    auto npz = NpzWriter::create(path_);
    ASSERT_TRUE(npz->add("a", golden(dtypes::f32, {4})).has_value());
    ASSERT_TRUE(npz->add("b", golden(dtypes::f32, {4})).has_value());
    ASSERT_TRUE(npz->finish().has_value());
    good_ = read_bytes(path_);
    central_ = good_.find("PK\x01\x02");
    second_ = good_.find("PK\x01\x02", central_ + 1);
    end_ = good_.find("PK\x05\x06");
  }
  template <class T>
  std::string with(std::size_t at, T value) const {
    std::string bytes = good_;
    std::memcpy(bytes.data() + at, &value, sizeof value);
    return bytes;
  }
  void refused(const std::string &bytes, const std::string &part) {
    SCOPED_TRACE(part);
    write_bytes(path_, bytes);
    auto npz = NpzReader::open(path_);
    if (!npz) return expect_error(npz, ErrorCode::io, part);
    auto a = npz->read("a"), b = npz->read("b");
    ASSERT_FALSE(a.has_value() && b.has_value());
    EXPECT_NE((a ? b : a).error().message.find(part), std::string::npos)
        << (a ? b : a).error().text();
  }
  Folder folder_;
  std::string path_ = folder_ / "a.npz", good_;
  std::size_t central_ = 0, second_ = 0, end_ = 0;
};

TEST_F(HostileNpz, Refused) {
  refused("", "too short");
  refused(good_.substr(0, good_.size() - 1), "directory is missing");
  refused(with<std::uint32_t>(end_ + 16, 0x7fffffff), "outside the file");
  refused(with<std::uint32_t>(end_ + 12, 0x7fffffff), "outside the file");
  refused(with<std::uint16_t>(end_ + 10, 500), "too small");
  refused(with<std::uint16_t>(end_ + 10, 1), "larger than its entries");
  refused(with<std::uint16_t>(end_ + 4, 1), "several parts");
  refused(with<std::uint32_t>(central_ + 42, 0x7fffffff), "lies outside");
  refused(with<std::uint32_t>(central_ + 20, 0x7fffffff), "lies outside");
  refused(with<std::uint32_t>(central_ + 24, 0x7fffffff), "impossible size");
  refused(with<std::uint32_t>(second_ + 42, 0), "overlap");
  refused(with<char>(second_ + 46, 'a'), "two entries are named 'a'");
  refused(with<char>(central_ + 46, '\0'), "not text");
  refused(with<char>(central_ + 46, '\xff'), "not text");
  refused(with<std::uint16_t>(central_ + 28, 60'000), "damaged");
  refused(with<std::uint32_t>(central_ + 16, 1), "CRC");
  refused(with<std::uint16_t>(central_ + 8, 1), "encrypted");
  refused(with<std::uint16_t>(central_ + 10, 8), "differs");
  refused(with<char>(30, 'z'), "differs");
  refused(with<char>(0, 'Q'), "differs");
  refused(with<std::uint16_t>(28, 60'000), "lies outside");
  refused(with<char>(good_.find("NUMPY") + 140, 'z'), "CRC");
}

TEST(Npz, RefusesBrokenStreams) {
  Folder f;
  const std::string path = f / "a.npz", data = read_bytes(kGoldens + "c_f4.npy");
  const auto size = static_cast<std::uint32_t>(data.size());
  const auto refused = [&](const std::string &bytes, const std::string &part) {
    SCOPED_TRACE(part);
    write_bytes(path, bytes);
    auto npz = NpzReader::open(path);
    if (!npz) return expect_error(npz, ErrorCode::io, part, path);
    expect_error(npz->read("a"), ErrorCode::io, part);
  };
  const auto with = [&](const std::string &payload, std::uint32_t claimed) {
    return archive(zip::kDeflated, payload, claimed, crc_of(data));
  };
  write_bytes(path, with(deflated(data), size));
  expect_golden(NpzReader::open(path)->read("a"), dtypes::f32, {2, 3});
  refused(with(deflated(data), 0x7ffffff0), "impossible size");  // no stream grows by so much
  refused(with(deflated(data), size - 4), "truncated");
  refused(with(deflated(data), size + 4), "4 bytes follow");
  refused(with(deflated(data + "more"), size), "to more than it says");
  refused(with(deflated(data.substr(0, 140)), size), "to less than it says");
  refused(with(deflated(data).substr(0, 40), size), "end early");
  refused(with(deflated(data) + "tail", size), "left over");
  refused(with(std::string(100, '\xff'), size), "damaged");
  refused(archive(zip::kDeflated, deflated(data), size, 7), "CRC");
  refused(archive(zip::kStored, data, size, 7), "CRC");
  refused(archive(zip::kStored, data + "more", size, crc_of(data)), "impossible size");
  // A bomb that keeps to the format's limit is cut off by the array's own size.
  const std::string bomb = deflated(std::string(1 << 20, '\0'));
  refused(with(bomb, 1 << 20), "does not begin with");
}

}  // namespace
}  // namespace switchyard
