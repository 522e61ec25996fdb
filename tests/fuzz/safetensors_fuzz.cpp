// SPDX-License-Identifier: Apache-2.0
// libFuzzer: any bytes as a .safetensors file, and as the index of a sharded model.
#include "fuzz_file.hpp"
#include "io/safetensors.hpp"
#include "io/safetensors_header.hpp"

using namespace switchyard;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
  static fuzz::File file("safetensors");
  file.set(data, size);
  auto reader = SafetensorsReader::open(file.path());
  if (reader) {
    std::uint64_t bytes = 0;
    for (const SafetensorInfo &t : reader->tensors()) {
      bytes += t.end - t.begin;
      auto tensor = reader->read(t);
      if (!t.dtype) fuzz::require(!tensor);
      if (!tensor) continue;
      fuzz::require(static_cast<std::uint64_t>(tensor->elements()) * size_of(*t.dtype) ==
                    t.end - t.begin);
    }
    fuzz::require(bytes <= size);
  } else {
    fuzz::require(!reader.error().message.empty() && !reader.error().file.empty());
  }
  const std::string_view text(reinterpret_cast<const char *>(data), size);
  if (auto index = parse_shard_index("index", text)) fuzz::require(!index->empty());
  return 0;
}
