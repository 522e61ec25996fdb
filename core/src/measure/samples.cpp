// SPDX-License-Identifier: Apache-2.0
#include "measure/samples.hpp"

#include <algorithm>
#include <cmath>

namespace switchyard {

int Samples::sorted(std::array<std::uint64_t, kKept> &out) const noexcept {
  const int n = std::min(count_, kKept);
  std::copy_n(values_.begin(), n, out.begin());
  std::sort(out.begin(), out.begin() + n);
  return n;
}

double Samples::quantile(double q) const noexcept {
  std::array<std::uint64_t, kKept> s{};
  const int n = sorted(s);
  if (n == 0) return 0;
  const double at = q * (n - 1);
  const auto low = static_cast<std::size_t>(at);
  const std::size_t high = std::min(low + 1, static_cast<std::size_t>(n - 1));
  const double share = at - static_cast<double>(low);
  return static_cast<double>(s[low]) * (1 - share) + static_cast<double>(s[high]) * share;
}

Samples::Interval Samples::interval() const noexcept {
  std::array<std::uint64_t, kKept> s{};
  const int n = sorted(s);
  if (n == 0) return {};
  // Ranks n/2 -+ 0.98 sqrt(n) of the binomial's normal approximation.
  const double half = 0.98 * std::sqrt(static_cast<double>(n));
  const int low = n < 6 ? 0 : std::max(0, static_cast<int>(std::floor(n / 2.0 - half)));
  const int high = n < 6 ? n - 1 : std::min(n - 1, static_cast<int>(std::ceil(n / 2.0 + half)));
  return {static_cast<double>(s[static_cast<std::size_t>(low)]),
          static_cast<double>(s[static_cast<std::size_t>(high)])};
}

}  // namespace switchyard
