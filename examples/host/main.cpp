// SPDX-License-Identifier: Apache-2.0
#include <cstdio>
#include <switchyard/switchyard.hpp>
#include <vector>

int main() {
  std::vector<float> points(10'000 * 4);
  for (std::size_t i = 0; i < points.size(); ++i)
    points[i] = static_cast<float>(i * 2'654'435'761u % 1'000) + (i / 4 % 3 == 0 ? 5'000.0f : 0.0f);

  auto engine = switchyard::Engine::create();
  if (!engine) return std::puts(engine.error().text().c_str()), 1;

  auto fit = engine->kmeans({points.data(), {10'000, 4}}, {.k = 8, .seed = 1});
  if (!fit) return std::puts(fit.error().text().c_str()), 1;
  std::printf("%d iterations, inertia %.6g, by %s in %.2f ms\n", fit->n_iter, fit->inertia,
              fit->info.kernel.c_str(), fit->info.time_ms);

  auto q = engine->quantize({points.data(), {10'000 / 8, 32}}, {.format = "q8_0"});
  if (!q) return std::puts(q.error().text().c_str()), 1;
  std::printf("%zu bytes became %zu, by %s\n", points.size() * 4,
              static_cast<std::size_t>(q->bytes()), q->info.kernel.c_str());
}
