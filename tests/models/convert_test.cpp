// SPDX-License-Identifier: Apache-2.0
#include "io/gguf.hpp"
#include "model_support.hpp"
#include "models/checksum.hpp"
#include "ops/quantize_formats.hpp"

namespace switchyard::test {
namespace {

class Convert : public ModelFixture {
 protected:
  void SetUp() override { add_all(); }

  Result<ModelReport> convert(const std::string &in, const std::string &out, ModelOptions options) {
    auto report = quantize_model(engine(), in, out, options);
    if (report) {
      EXPECT_FALSE(fs::exists(out + ".partial"));
    }
    return report;
  }

  static void expect_bytes(const Tensor &got, const Tensor &want) {
    ASSERT_EQ(shape_text(got.shape()), shape_text(want.shape()));
    ASSERT_EQ(to_string(got.dtype()), to_string(want.dtype()));
    EXPECT_EQ(std::memcmp(got.data(), want.data(), want.bytes()), 0);
  }

  Quantized direct(const std::string &name, const TensorChoice &c) {
    QuantizeOptions options;
    options.format = c.format;
    options.group_size = c.group_size;
    auto q = engine().quantize(tensor(name), options);
    EXPECT_TRUE(q) << name;
    return std::move(*q);
  }
};

TEST_F(Convert, MlxFolderHoldsWhatTheEngineGives) {
  for (const bool shards : {false, true}) {
    const std::string in = folder(shards ? "sharded" : "single", shards);
    const std::string out = path(shards ? "out2" : "out1");
    const auto report = convert(in, out, recipe("SPEED_4BIT"));
    ASSERT_TRUE(report) << report.error().text();
    const auto file = SafetensorsReader::open(out + "/model.safetensors");
    ASSERT_TRUE(file) << file.error().text();
    for (const TensorReport &t : report->tensors) {
      SCOPED_TRACE(t.tensor.name);
      if (!t.quantized()) {
        const auto kept = file->read(t.tensor.name);
        ASSERT_TRUE(kept);
        expect_bytes(*kept, tensor(t.tensor.name));
        continue;
      }
      const Quantized q = direct(t.tensor.name, t.choice);
      const std::string base = t.tensor.name.substr(0, t.tensor.name.size() - 7);
      expect_bytes(*file->read(t.tensor.name), q.codes);
      expect_bytes(*file->read(base + ".scales"), q.scales);
      expect_bytes(*file->read(base + ".biases"), q.biases);
    }
    const Json config = Json::parse(slurp(out + "/config.json"));
    EXPECT_EQ(config["model_type"], "llama");
    EXPECT_EQ(config["quantization"]["group_size"], 64);
    EXPECT_EQ(config["quantization"]["bits"], 4);
    EXPECT_EQ(config["quantization"]["mode"], "affine");
    EXPECT_EQ(config["quantization"]["model.layers.0.odd"], false);
    EXPECT_FALSE(config["quantization"].contains("lm_head"));
    EXPECT_EQ(slurp(out + "/tokenizer.json"), "{}");
    EXPECT_FALSE(fs::exists(out + "/.switchyard-journal"));
  }
  EXPECT_TRUE(without_hints(path("out1/model.safetensors")) ==
              without_hints(path("out2/model.safetensors")));
}

TEST_F(Convert, ChecksumsAndHintsAreInTheFile) {
  const auto report = convert(folder(), path("o.safetensors"), recipe("SPEED_4BIT"));
  ASSERT_TRUE(report) << report.error().text();
  const auto file = SafetensorsReader::open(path("o.safetensors"));
  ASSERT_TRUE(file);
  const Json sums = Json::parse(file->metadata().at("checksums_xxh3"));
  EXPECT_EQ(sums.size(), file->tensors().size());
  for (const SafetensorInfo &t : file->tensors()) {
    const auto array = file->read(t);
    ASSERT_TRUE(array);
    EXPECT_EQ(sums[t.name], models::checksum_of({array->data<const char>(), t.end - t.begin}))
        << t.name;
  }
  EXPECT_TRUE(Json::parse(file->metadata().at("hints")).contains("threads"));
  EXPECT_EQ(file->metadata().at("recipe"), "SPEED_4BIT");
}

TEST_F(Convert, PerLayerChoicesAreInTheConfig) {
  const auto report = convert(folder(), path("out"), rules(R"(
rules:
  "*embed*": false
  lm_head.weight: mlx_affine8:32
  "*proj*": mlx_affine4
)"));
  ASSERT_TRUE(report) << report.error().text();
  const Json q = Json::parse(slurp(path("out/config.json")))["quantization"];
  EXPECT_EQ(q["bits"], 4);
  EXPECT_EQ(q["lm_head"]["bits"], 8);
  EXPECT_EQ(q["lm_head"]["group_size"], 32);
  EXPECT_EQ(q["model.embed_tokens"], false);
}

TEST_F(Convert, ShardsAreCutAndReadBack) {
  ModelOptions options = recipe("SPEED_4BIT");
  options.shard_bytes = 30'000;
  const auto report = convert(folder(), path("out"), options);
  ASSERT_TRUE(report) << report.error().text();
  EXPECT_TRUE(fs::exists(path("out/model-00001-of-00004.safetensors")));
  const auto back = dequantize_model(engine(), path("out"), path("plain"), {});
  ASSERT_TRUE(back) << back.error().text();
  const auto file = SafetensorsReader::open(path("plain/model.safetensors"));
  ASSERT_TRUE(file);
  EXPECT_EQ(file->tensors().size(), names_.size());
  for (const TensorReport &t : report->tensors) {
    const auto restored = file->read(t.tensor.name);
    ASSERT_TRUE(restored) << t.tensor.name;
    const Tensor want = t.quantized()
                            ? std::move(*engine().dequantize(direct(t.tensor.name, t.choice)))
                            : std::move(*contiguous_copy(tensor(t.tensor.name)));
    expect_bytes(*restored, want);
  }
  EXPECT_FALSE(Json::parse(slurp(path("plain/config.json"))).contains("quantization"));
}

TEST_F(Convert, FoldersThatMlxWroteAreRestored) {
  const auto report = convert(folder(), path("out"), recipe("SPEED_4BIT"));
  ASSERT_TRUE(report) << report.error().text();
  // MLX's files have no metadata of ours: config.json alone describes them.
  const auto file = SafetensorsReader::open(path("out/model.safetensors"));
  std::vector<Tensor> keep;
  std::vector<NamedTensor> arrays;
  for (const SafetensorInfo &t : file->tensors()) keep.push_back(std::move(*file->read(t)));
  for (std::size_t i = 0; i < keep.size(); ++i)
    arrays.push_back({file->tensors()[i].name, keep[i]});
  ASSERT_TRUE(write_safetensors(path("out/model.safetensors"), arrays, {{"format", "mlx"}}));
  const auto back = dequantize_model(engine(), path("out"), path("p.safetensors"), {});
  ASSERT_TRUE(back) << back.error().text();
  const auto plain = SafetensorsReader::open(path("p.safetensors"));
  ASSERT_TRUE(plain);
  const std::string name = "model.embed_tokens.weight";
  expect_bytes(*plain->read(name), *engine().dequantize(direct(name, choice("mlx_affine4", 64))));
}

TEST_F(Convert, GgufThereAndBack) {
  const auto report = convert(folder(), path("m.gguf"), recipe("SPEED_4BIT"));
  ASSERT_TRUE(report) << report.error().text();
  const auto file = GgufReader::open(path("m.gguf"));
  ASSERT_TRUE(file) << file.error().text();
  EXPECT_EQ(file->value("general.architecture")->text(), "llama");
  EXPECT_EQ(file->value("general.file_type")->unsigned_integer(), 2u);
  for (const TensorReport &t : report->tensors) {
    SCOPED_TRACE(t.tensor.name);
    const GgufTensor *g = file->find(t.tensor.name);
    ASSERT_NE(g, nullptr);
    EXPECT_EQ(g->shape, t.tensor.shape);
    std::string bytes(g->bytes, '\0');
    ASSERT_TRUE(file->read(*g, 0, std::as_writable_bytes(std::span(bytes))));
    const Quantized q = t.quantized() ? direct(t.tensor.name, t.choice) : Quantized{};
    const Tensor &want = t.quantized() ? q.codes : tensor(t.tensor.name);
    EXPECT_EQ(bytes, std::string(want.data<const char>(), want.bytes()));
  }
  // From GGUF to MLX's layout: restored and quantised again; what is kept keeps its blocks.
  const auto again = convert(path("m.gguf"), path("mlx"),
                             rules("rules: {lm_head.weight: mlx_affine8, \"*\": false}\n"));
  ASSERT_TRUE(again) << again.error().text();
  const auto mlx = SafetensorsReader::open(path("mlx/model.safetensors"));
  ASSERT_TRUE(mlx);
  EXPECT_NE(mlx->find("lm_head.scales"), nullptr);
  EXPECT_EQ(mlx->find("model.embed_tokens.weight")->dtype_name, "U8");
  EXPECT_EQ(Json::parse(slurp(path("mlx/config.json")))["model_type"], "llama");
  // And all of it plain again, GGUF's values as f32.
  const auto plain = dequantize_model(engine(), path("mlx"), path("plain.gguf"), {});
  ASSERT_TRUE(plain) << plain.error().text();
  const auto f32 = GgufReader::open(path("plain.gguf"));
  ASSERT_TRUE(f32);
  EXPECT_EQ(f32->find("model.embed_tokens.weight")->type->name, "F32");
  const auto same = convert(path("m.gguf"), path("same.gguf"), rules("rules: {\"*\": false}\n"));
  ASSERT_TRUE(same) << same.error().text();
  EXPECT_EQ(same->quantized(), 0u);
  EXPECT_EQ(GgufReader::open(path("same.gguf"))->find("lm_head.weight")->type->name, "Q4_0");
}

TEST_F(Convert, PiecesGiveTheSameBytesAsTheWhole) {
  // More rows than a piece holds, a last piece that is shorter, and rows longer than a piece.
  tensors_.clear();
  names_.clear();
  add("tall.weight", weights({3001, 1024}, dtypes::f32, 1));
  add("wide.weight", weights({1, 64 * 40'000}, dtypes::f32, 2));
  const auto report = convert(folder(), path("o.safetensors"), rules(R"(
rules: {"*": mlx_affine4:64}
)"));
  ASSERT_TRUE(report) << report.error().text();
  const auto file = SafetensorsReader::open(path("o.safetensors"));
  for (const std::string &name : names_) {
    SCOPED_TRACE(name);
    const Quantized q = direct(name, choice("mlx_affine4", 64));
    expect_bytes(*file->read(name), q.codes);
    expect_bytes(*file->read(name.substr(0, name.size() - 7) + ".scales"), q.scales);
    const TensorQuality &quality = *of(*report, name).quality;
    EXPECT_EQ(quality.values, tensor(name).elements());
  }
  // And back, in pieces too; a row of the wide one needs several.
  const auto back = dequantize_model(engine(), path("o.safetensors"), path("b.safetensors"), {});
  ASSERT_TRUE(back) << back.error().text();
  const auto plain = SafetensorsReader::open(path("b.safetensors"));
  for (const std::string &name : names_)
    expect_bytes(*plain->read(name), *engine().dequantize(direct(name, choice("mlx_affine4", 64))));
}

TEST_F(Convert, QualityIsThatOfTheRestoredValues) {
  const auto report = convert(folder(), path("out"), recipe("SPEED_4BIT"));
  ASSERT_TRUE(report) << report.error().text();
  const std::string name = "lm_head.weight";
  const TensorReport &t = of(*report, name);
  const auto y = engine().dequantize(direct(name, t.choice));
  const float *a = tensor(name).data<const float>(), *b = y->data<const float>();
  double error = 0, signal = 0, most = 0;
  for (std::int64_t i = 0; i < y->elements(); ++i) {
    const double d = static_cast<double>(a[i]) - static_cast<double>(b[i]);
    error += d * d;
    signal += static_cast<double>(a[i]) * static_cast<double>(a[i]);
    most = std::max(most, std::fabs(d));
  }
  EXPECT_NEAR(t.quality->mse(), error / static_cast<double>(y->elements()), 1e-12);
  EXPECT_NEAR(t.quality->snr_db(), 10 * std::log10(signal / error), 1e-6);
  EXPECT_NEAR(t.quality->max_error, most, most * 1e-6);
  ASSERT_EQ(t.quality->histogram.size(), 16u);
  std::uint64_t total = 0;
  for (std::uint64_t n : t.quality->histogram) total += n;
  EXPECT_EQ(total, static_cast<std::uint64_t>(y->elements()));
  const Json doc = Json::parse(report->json());
  int listed = 0;
  for (const Json &one : doc["tensors"])
    if (one["name"] == name) {
      EXPECT_NEAR(one["snr_db"].get<double>(), t.quality->snr_db(), 1e-9);
      ++listed;
    }
  EXPECT_EQ(listed, 1);
}

TEST_F(Convert, EveryFormatIsConvertedAndItsCodesCounted) {
  const std::string in = folder();
  for (const QuantFormat &f : quant_formats()) {
    SCOPED_TRACE(f.name);
    ModelOptions options;
    options.predicate = [&](const ModelTensor &t) -> std::optional<TensorChoice> {
      return t.name == "lm_head.weight" ? choice(std::string(f.name)) : TensorChoice{};
    };
    const std::string out = path(std::string(f.name) + ".safetensors");
    const auto report = convert(in, out, options);
    ASSERT_TRUE(report) << report.error().text();
    const TensorReport &t = of(*report, "lm_head.weight");
    std::uint64_t total = 0;
    for (std::uint64_t n : t.quality->histogram) total += n;
    EXPECT_EQ(total, 128u * 256u);
    EXPECT_GT(std::ranges::count_if(t.quality->histogram, [](auto n) { return n > 0; }), 1);
    const auto back = dequantize_model(engine(), out, path("back.safetensors"), {});
    ASSERT_TRUE(back) << back.error().text();
    const auto y = SafetensorsReader::open(path("back.safetensors"))->read("lm_head.weight");
    ASSERT_TRUE(y);
    expect_bytes(*y, *engine().dequantize(direct("lm_head.weight", t.choice)));
  }
}

TEST_F(Convert, DtypesAreCastOnLoad) {
  ModelOptions options = recipe("SPEED_4BIT");
  options.dtype = "bf16";
  const auto report = convert(folder(), path("out"), options);
  ASSERT_TRUE(report) << report.error().text();
  EXPECT_EQ(
      SafetensorsReader::open(path("out/model.safetensors"))->find("lm_head.scales")->dtype_name,
      "BF16");
}

TEST_F(Convert, TargetBitsMeetsItsBudgetWithLessErrorThanOneFormat) {
  const std::string in = folder();
  ModelOptions options;
  options.target_bits = 6.5;
  options.rules =
      "version: 1\nrules: {\"*odd*\": false}\ncandidates: [mlx_affine4:128, "
      "mlx_affine4:64, mlx_affine8:128, mlx_affine8:64]\n";
  const auto report = convert(in, path("out"), options);
  ASSERT_TRUE(report) << report.error().text();
  EXPECT_LE(report->bits_per_value(), 6.5);
  EXPECT_GT(report->bits_per_value(), 4.5);
  const TensorReport &t = of(*report, "lm_head.weight");
  ASSERT_EQ(t.candidates.size(), 5u);  // keeping it is one of them
  EXPECT_EQ(std::ranges::count_if(t.candidates, &CandidateError::chosen), 1);
  // The sample is all of a small tensor: what was promised is what came out.
  for (const TensorReport &r : report->tensors)
    for (const CandidateError &c : r.candidates)
      if (c.chosen && r.quality) {
        EXPECT_NEAR(c.squared_error, r.quality->squared_error, 1e-9);
      }
  const auto four = convert(in, path("four"), recipe("SPEED_4BIT"));
  EXPECT_LT(report->quality().squared_error, four->quality().squared_error);
  options.target_bits = 2;
  expect_error(dry(in, options), ErrorCode::invalid_argument, "cannot be met");
}

}  // namespace
}  // namespace switchyard::test
