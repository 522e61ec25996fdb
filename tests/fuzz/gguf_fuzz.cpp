// SPDX-License-Identifier: Apache-2.0
// libFuzzer: any bytes as a .gguf file. What is accepted must lay out to a file with the same
// header.
#include <vector>

#include "fuzz_file.hpp"
#include "io/gguf.hpp"

using namespace switchyard;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
  static fuzz::File file("gguf");
  file.set(data, size);
  auto reader = GgufReader::open(file.path());
  if (!reader) {
    fuzz::require(!reader.error().message.empty() && !reader.error().file.empty());
    return 0;
  }
  std::uint64_t total = 0;
  std::vector<GgufSpec> specs;
  bool writable = true;
  for (const GgufTensor &t : reader->tensors()) {
    total += t.bytes;
    fuzz::require(t.type != nullptr && total <= size);
    std::vector<std::byte> bytes(t.bytes);
    fuzz::require(reader->read(t, 0, bytes).has_value());
    writable = writable && t.name.size() <= 63 && !t.shape.empty();
    specs.push_back({t.name, t.type, t.shape});
  }
  auto layout = gguf_layout("copy", reader->entries(), specs);
  fuzz::require(layout.has_value() == writable);
  if (!layout) return 0;
  static fuzz::File copy("copy");
  std::string bytes = layout->header;
  bytes.resize(layout->size);
  copy.set(reinterpret_cast<const std::uint8_t *>(bytes.data()), bytes.size());
  auto again = GgufReader::open(copy.path());
  fuzz::require(again.has_value() && again->tensors().size() == specs.size());
  return 0;
}
