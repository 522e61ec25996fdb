// SPDX-License-Identifier: Apache-2.0
#include "models/convert.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>

#include "machine/machine.hpp"
#include "models/checksum.hpp"
#include "models/quality.hpp"
#include "models/report.hpp"

namespace switchyard::models {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::uint64_t kCopyBytes = std::uint64_t{8} << 20;

/// Adds the time of its scope.
class Stopwatch {
 public:
  explicit Stopwatch(double &ms) : ms_(ms) {}
  ~Stopwatch() { ms_ += std::chrono::duration<double, std::milli>(Clock::now() - start_).count(); }
  Stopwatch(const Stopwatch &) = delete;
  Stopwatch &operator=(const Stopwatch &) = delete;

 private:
  double &ms_;
  Clock::time_point start_ = Clock::now();
};

/// A problem of an operation in the words of `explain`.
std::string problem(const TensorChoice &c, std::int64_t rows, std::int64_t cols, DType dtype) {
  std::string shape =
      fmt::format("rows={},n={},format={},dtype={}", rows, rows * cols, c.format, to_string(dtype));
  if (c.group_size > 0) shape += fmt::format(",group_size={}", c.group_size);
  if (c.granularity != "tensor") shape += fmt::format(",granularity={}", c.granularity);
  return shape;
}

std::span<const std::byte> bytes_of(const Tensor &t) {
  return {t.data<const std::byte>(), static_cast<std::size_t>(t.elements()) * size_of(t.dtype())};
}

}  // namespace

Converter::Converter(Engine &engine, const Source &source, const Plan &plan,
                     const ModelOptions &options, ModelReport &report)
    : engine_(engine),
      source_(source),
      plan_(plan),
      options_(options),
      report_(report),
      reader_(engine, source),
      done_(plan.tensors.size()) {
  for (const PlanTensor &p : plan.tensors) total_bytes_ += p.source->info.bytes;
}

Status Converter::run(const std::string &out) {
  auto output = Output::make(source_, plan_, out, hints(), options_.shard_bytes);
  if (!output) return tl::unexpected(output.error());
  auto work = out.empty() ? Result<WorkFolder>(WorkFolder::nowhere())
                          : WorkFolder::open(out, plan_.folder, fingerprint(output->files()),
                                             options_.resume, output->files());
  if (!work) return tl::unexpected(work.error());
  auto status = convert_all(*work, *output);
  if (!status) {
    // What an interruption or a full disk leaves can be continued; a wrong input would fail again.
    const ErrorCode code = status.error().code;
    if (code != ErrorCode::cancelled && code != ErrorCode::io && code != ErrorCode::out_of_memory)
      work->discard();
  }
  return status;
}

/// Lets the engine find out on generated data who is fastest for the pieces that make up most of
/// the work: trying candidates on the model's own pieces would cost more.
void Converter::settle() {
  constexpr std::uint64_t least = std::uint64_t{4} << 20;
  Stopwatch watch(report_.decide_ms);
  std::map<std::string, std::uint64_t> problems;
  for (const PlanTensor &p : plan_.tensors) {
    if (p.action != Action::quantize) continue;
    const Pieces pieces = cut(*p.source, &*p.quant, size_of(p.dtype));
    problems[problem(p.quant->choice, pieces.per_piece, pieces.cols, p.dtype)] +=
        static_cast<std::uint64_t>(p.source->info.values) * size_of(p.dtype);
  }
  for (const auto &[shape, bytes] : problems) {
    if (bytes < least) continue;
    // A refusal will be the call's own error.
    (void)engine_.explain("quantize", shape, true);
    if (options_.quality) (void)engine_.explain("dequantize", shape, true);
  }
}

Status Converter::convert_all(WorkFolder &work, const Output &output) {
  if (auto ok = resume(work, output); !ok) return ok;
  settle();
  for (std::size_t i = 0; i < plan_.tensors.size(); ++i) {
    if (done_[i]) continue;
    if (auto ok = convert(work, output, i); !ok) return ok;
  }
  {
    Stopwatch watch(report_.write_ms);
    if (auto ok = write_rest(work, output); !ok) return ok;
  }
  for (auto &[name, speed] : speeds_) {
    if (options_.bench) measure_bench(*largest_[name], speed);
    if (speed.compute_ms > 0)
      speed.gb_per_s = static_cast<double>(speed.bytes) / 1e6 / speed.compute_ms;
    report_.speeds.push_back(speed);
  }
  return {};
}

Status Converter::write_rest(WorkFolder &work, const Output &output) {
  if (!work.kept()) return {};
  auto headers = output.headers(checksums_);
  if (!headers) return tl::unexpected(headers.error());
  for (std::size_t f = 0; f < headers->size(); ++f)
    if (auto ok = work.write(f, 0, std::as_bytes(std::span((*headers)[f]))); !ok) return ok;
  for (const WorkFolder::File &file : output.files()) report_.files.push_back(file.name);
  if (plan_.folder) {
    for (const std::string &name : source_.companions()) {
      auto text = read_text_file(source_.folder() + "/" + name, std::uint64_t{1} << 29);
      if (!text) return tl::unexpected(text.error());
      if (auto ok = work.add(name, *text); !ok) return ok;
      report_.files.push_back(name);
    }
    if (auto ok = work.add("config.json", output.config()); !ok) return ok;
    report_.files.push_back("config.json");
    if (const auto index = output.index()) {
      if (auto ok = work.add("model.safetensors.index.json", *index); !ok) return ok;
      report_.files.push_back("model.safetensors.index.json");
    }
  }
  return work.finish();
}

Json Converter::hints() const {
  Json formats = Json::object();
  for (const PlanTensor &p : plan_.tensors) {
    if (!p.quant || p.action == Action::restore || formats.size() >= 8) continue;
    const TensorChoice &c = p.quant->choice;
    if (formats.contains(c.text())) continue;
    // Of a piece: explaining generates data, as many as the problem has.
    const Pieces pieces = cut(*p.source, &*p.quant, size_of(p.dtype));
    auto why = engine_.explain("dequantize", problem(c, pieces.per_piece, pieces.cols, p.dtype));
    if (why) formats[c.text()] = why->chosen;
  }
  return Json{{"cpu", machine().cpu}, {"threads", engine_.threads()}, {"dequantize", formats}};
}

std::string Converter::fingerprint(const std::vector<WorkFolder::File> &files) const {
  std::string all = fmt::format("{}\n{}\n{}\n", version(), source_.identity(), options_.nonfinite);
  for (const WorkFolder::File &file : files) all += fmt::format("{} {}\n", file.name, file.size);
  for (const PlanTensor &p : plan_.tensors)
    all += fmt::format("{} {} {} {}\n", p.source->info.name, static_cast<int>(p.action),
                       to_string(p.dtype), p.quant ? p.quant->choice.text() : "");
  return checksum_of(all);
}

Result<bool> Converter::intact(const WorkFolder &work, const OutputArray &array,
                               const std::string &sum) {
  Checksum checksum;
  for (std::uint64_t at = 0; at < array.bytes; at += kCopyBytes) {
    const auto n = static_cast<std::int64_t>(std::min(kCopyBytes, array.bytes - at));
    auto piece = raw_.array(dtypes::u8, std::array{n});
    if (!piece) return tl::unexpected(piece.error());
    const std::span<std::byte> bytes(piece->data<std::byte>(), static_cast<std::size_t>(n));
    if (auto ok = work.read(array.file, array.offset + at, bytes); !ok)
      return tl::unexpected(ok.error());
    checksum.add(bytes);
  }
  return checksum.text() == sum;
}

Status Converter::resume(WorkFolder &work, const Output &output) {
  Stopwatch watch(report_.read_ms);
  for (const std::string &line : work.done()) {
    const Json entry = Json::parse(line, nullptr, false);
    if (!entry.is_object() || !entry.contains("tensor")) continue;
    const auto at = std::ranges::find_if(
        report_.tensors, [&](const TensorReport &t) { return entry["tensor"] == t.tensor.name; });
    if (at == report_.tensors.end()) continue;
    const auto index = static_cast<std::size_t>(at - report_.tensors.begin());
    TensorReport t = *at;
    if (!read_journal(entry, t)) continue;
    const auto &arrays = output.arrays(index);
    bool good = t.checksums.size() == arrays.size();
    for (std::size_t i = 0; good && i < arrays.size(); ++i) {
      auto same = intact(work, arrays[i], t.checksums[i].second);
      if (!same) return tl::unexpected(same.error());
      good = *same && t.checksums[i].first == arrays[i].name;
    }
    if (!good) continue;
    t.resumed = true;
    for (const auto &[name, sum] : t.checksums) checksums_[name] = sum;
    *at = std::move(t);
    done_[index] = true;
    if (auto ok = advance(at->tensor.bytes); !ok) return ok;
  }
  return {};
}

Status Converter::advance(std::uint64_t bytes) {
  done_bytes_ += bytes;
  const double share =
      total_bytes_ > 0 ? static_cast<double>(done_bytes_) / static_cast<double>(total_bytes_) : 1;
  if (options_.progress && !options_.progress(what_, std::min(share, 1.0)))
    return fail(ErrorCode::cancelled,
                fmt::format("interrupted; {} tensors are done, and the same command goes on from "
                            "there",
                            std::ranges::count(done_, true)));
  return {};
}

Status Converter::convert(WorkFolder &work, const Output &output, std::size_t index) {
  const PlanTensor &p = plan_.tensors[index];
  TensorReport &report = report_.tensors[index];
  what_ = p.source->info.name;
  if (auto ok = advance(0); !ok) return ok;
  const auto &arrays = output.arrays(index);
  const auto run = [&]() -> Status {
    switch (p.action) {
      case Action::copy:
        return copy(work, arrays, report);
      case Action::quantize:
        return quantize(work, arrays, report);
      case Action::restore:
        return restore(work, arrays, report);
    }
    return {};
  };
  if (auto ok = run(); !ok)
    return ok.error().code == ErrorCode::cancelled
               ? ok
               : Status(tl::unexpected(about(ok.error(), source_, what_)));
  for (const auto &[name, sum] : report.checksums) checksums_[name] = sum;
  done_[index] = true;
  Stopwatch watch(report_.write_ms);
  return work.note(journal_entry(report).dump());
}

/// A format with one scale for a tensor needs all of it in memory.
Status Converter::check_whole(const PlanTensor &p, const Pieces &pieces,
                              std::size_t value_bytes) const {
  const std::uint64_t bytes = static_cast<std::uint64_t>(pieces.per_piece) *
                              static_cast<std::uint64_t>(pieces.cols) * value_bytes;
  if (bytes <= options_.whole_tensor_bytes) return {};
  return fail(ErrorCode::unsupported,
              fmt::format("{} would need {} bytes in memory at once, more than the {} allowed; "
                          "choose granularity row or group, or another format",
                          p.quant ? p.quant->choice.text() : p.source->info.stored, bytes,
                          options_.whole_tensor_bytes));
}

Status Converter::copy(WorkFolder &work, const std::vector<OutputArray> &arrays,
                       TensorReport &report) {
  const SourceTensor &t = *plan_of(report).source;
  // A quantised tensor of a safetensors file is several arrays; all else is one run of bytes.
  const bool parts = t.quant && t.type == nullptr;
  for (const OutputArray &array : arrays) {
    SourceTensor part;
    part.info.name = parts ? array.name : t.info.name;
    part.type = t.type;
    Checksum checksum;
    for (std::uint64_t at = 0; at < array.bytes; at += kCopyBytes) {
      const auto n = static_cast<std::int64_t>(std::min(kCopyBytes, array.bytes - at));
      auto piece = raw_.array(dtypes::u8, std::array{n});
      if (!piece) return tl::unexpected(piece.error());
      const std::span<std::byte> bytes(piece->data<std::byte>(), static_cast<std::size_t>(n));
      {
        Stopwatch watch(report_.read_ms);
        if (auto ok = source_.read_bytes(part, at, bytes); !ok) return ok;
      }
      Stopwatch watch(report_.write_ms);
      checksum.add(bytes);
      if (auto ok = work.write(array.file, array.offset + at, bytes); !ok) return ok;
      if (auto ok = advance(static_cast<std::uint64_t>(n)); !ok) return ok;
    }
    report.checksums.emplace_back(array.name, checksum.text());
  }
  return {};
}

Result<Quantized> Converter::quantize_piece(const TensorView &x, const PlanTensor &p,
                                            TensorReport &report) {
  auto spec = quant_spec(p.quant->choice, x.shape(), p.dtype);
  if (!spec) return tl::unexpected(spec.error());
  QuantizeOptions options = options_of(p.quant->choice, options_.nonfinite);
  const auto give = [&](std::size_t i, const std::optional<QuantArray> &array,
                        TensorView &into) -> Status {
    if (!array) return {};
    auto view = outputs_[i].array(array->dtype, array->shape());
    if (!view) return tl::unexpected(view.error());
    into = *view;
    return {};
  };
  if (auto ok = give(0, spec->layout.codes, options.codes_out); !ok)
    return tl::unexpected(ok.error());
  if (auto ok = give(1, spec->layout.scales, options.scales_out); !ok)
    return tl::unexpected(ok.error());
  if (auto ok = give(2, spec->layout.biases, options.biases_out); !ok)
    return tl::unexpected(ok.error());
  std::vector<double> times;
  for (int i = 0;; ++i) {
    double ms = 0;
    auto q = [&] {
      Stopwatch watch(ms);
      return engine_.quantize(x, options);
    }();
    if (!q) return q;
    times.push_back(ms);
    if (i + 1 < std::max(options_.repeat, 1)) continue;
    std::ranges::sort(times);
    report.compute_ms += times[times.size() / 2];
    report.info = q->info;
    return q;
  }
}

Status Converter::measure_piece(const TensorView &x, const Quantized &q, TensorReport &report) {
  Stopwatch watch(report_.quality_ms);
  auto y = restored_.array(dtypes::f32, x.shape());
  if (!y) return tl::unexpected(y.error());
  if (auto restored = engine_.dequantize(q, *y); !restored) return tl::unexpected(restored.error());
  if (!report.quality) report.quality.emplace();
  add_errors(x, y->data<const float>(), *report.quality);
  auto format = parse_quant_format(q.format);
  count_codes(**format, bytes_of(q.codes), report.quality->histogram);
  return {};
}

Status Converter::quantize(WorkFolder &work, const std::vector<OutputArray> &arrays,
                           TensorReport &report) {
  const PlanTensor &p = plan_of(report);
  const SourceTensor &t = *p.source;
  const std::size_t value_bytes = size_of(p.dtype);
  const Pieces pieces = cut(t, &*p.quant, value_bytes);
  if (auto ok = check_whole(p, pieces, value_bytes); !ok) return ok;
  std::vector<Checksum> sums(arrays.size());
  std::vector<std::uint64_t> at(arrays.size());
  std::int64_t first = 0;
  do {
    const std::int64_t count = std::min(pieces.per_piece, pieces.rows - first);
    auto read = [&] {
      Stopwatch watch(report_.read_ms);
      return reader_.read(t, pieces, first, count, p.dtype);
    }();
    if (!read) return tl::unexpected(read.error());
    // All of a tensor keeps its shape: channels are counted along its first dimension.
    const TensorView x =
        count == pieces.rows ? TensorView(read->data(), p.dtype, t.info.shape) : *read;
    auto q = quantize_piece(x, p, report);
    if (!q) {
      Error error = q.error();
      if (error.index >= 0) error.index += first * pieces.cols;
      return tl::unexpected(error);
    }
    {
      Stopwatch watch(report_.write_ms);
      const std::array parts = {&q->codes, &q->scales, &q->biases};
      for (std::size_t i = 0; i < arrays.size(); ++i) {
        const auto bytes = bytes_of(*parts[i]);
        sums[i].add(bytes);
        if (auto ok = work.write(arrays[i].file, arrays[i].offset + at[i], bytes); !ok) return ok;
        at[i] += bytes.size();
      }
    }
    if (options_.quality)
      if (auto ok = measure_piece(x, *q, report); !ok) return ok;
    first += count;
    const double share =
        static_cast<double>(count) / static_cast<double>(std::max<std::int64_t>(pieces.rows, 1));
    if (auto ok = advance(static_cast<std::uint64_t>(share * static_cast<double>(t.info.bytes)));
        !ok)
      return ok;
  } while (first < pieces.rows);
  for (std::size_t i = 0; i < arrays.size(); ++i)
    report.checksums.emplace_back(arrays[i].name, sums[i].text());
  report_.compute_ms += report.compute_ms;
  FormatSpeed &speed = speeds_[report.choice.text()];
  speed.choice = report.choice.text();
  speed.bytes += static_cast<std::uint64_t>(t.info.values) * value_bytes;
  speed.compute_ms += report.compute_ms;
  const PlanTensor *&largest = largest_[speed.choice];
  if (largest == nullptr || largest->source->info.values < t.info.values) largest = &p;
  return {};
}

Status Converter::restore(WorkFolder &work, const std::vector<OutputArray> &arrays,
                          TensorReport &report) {
  const PlanTensor &p = plan_of(report);
  const SourceTensor &t = *p.source;
  const std::size_t value_bytes = size_of(p.dtype);
  const Pieces pieces = cut(t, nullptr, value_bytes);
  if (auto ok = check_whole(p, pieces, value_bytes); !ok) return ok;
  const OutputArray &array = arrays.front();
  Checksum sum;
  std::uint64_t at = 0;
  std::int64_t first = 0;
  do {
    const std::int64_t count = std::min(pieces.per_piece, pieces.rows - first);
    double ms = 0;
    auto x = [&] {
      Stopwatch watch(ms);
      return reader_.read(t, pieces, first, count, p.dtype, &report.info);
    }();
    if (!x) return tl::unexpected(x.error());
    // Reading and restoring are one step of the reader; the engine knows its own part.
    report.compute_ms += report.info.time_ms;
    report_.read_ms += std::max(ms - report.info.time_ms, 0.0);
    Stopwatch watch(report_.write_ms);
    const std::span<const std::byte> bytes(x->data<const std::byte>(),
                                           static_cast<std::size_t>(x->elements()) * value_bytes);
    sum.add(bytes);
    if (auto ok = work.write(array.file, array.offset + at, bytes); !ok) return ok;
    at += bytes.size();
    first += count;
    if (auto ok = advance(0); !ok) return ok;
  } while (first < pieces.rows);
  report.checksums.emplace_back(array.name, sum.text());
  report_.compute_ms += report.compute_ms;
  return advance(t.info.bytes);
}

/// The same call again and again on data that stay where they are: what a benchmark of the format
/// on this tensor's pieces shows.
void Converter::measure_bench(const PlanTensor &p, FormatSpeed &speed) {
  constexpr double budget_ms = 100;
  constexpr int fewest = 5;
  const Pieces pieces = cut(*p.source, &*p.quant, size_of(p.dtype));
  auto x = reader_.read(*p.source, pieces, 0, pieces.per_piece, p.dtype);
  if (!x) return;
  std::vector<double> times;
  double spent = 0;
  while (spent < budget_ms || times.size() < fewest) {
    TensorReport scratch;
    if (!quantize_piece(*x, p, scratch)) return;
    times.push_back(scratch.compute_ms);
    spent += scratch.compute_ms;
  }
  std::ranges::sort(times);
  const double bytes = static_cast<double>(x->elements()) * static_cast<double>(size_of(p.dtype));
  speed.bench_gb_per_s = bytes / 1e6 / times[times.size() / 2];
}

}  // namespace switchyard::models
