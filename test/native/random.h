#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

namespace shardspeed::test {

// A small seeded generator (xorshift64*, Vigna 2016): the same numbers on every machine and library.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15ull + 0x1234567ull) {
    for (int i = 0; i < 4; ++i) bits();
  }

  uint64_t bits() {
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    return state_ * 0x2545f4914f6cdd1dull;
  }
  // In [0, limit).
  int64_t below(int64_t limit) { return static_cast<int64_t>((bits() >> 11) % static_cast<uint64_t>(limit)); }
  // In [low, high].
  int64_t between(int64_t low, int64_t high) { return low + below(high - low + 1); }
  double uniform() { return static_cast<double>(bits() >> 11) * 0x1.0p-53; }
  bool chance(double probability) { return uniform() < probability; }
  float normal(float deviation = 1) {
    const double radius = std::sqrt(-2 * std::log(1 - uniform()));
    return static_cast<float>(radius * std::cos(6.283185307179586 * uniform())) * deviation;
  }
  std::vector<float> normals(int64_t count, float deviation = 1) {
    std::vector<float> values(static_cast<size_t>(count));
    for (float& value : values) value = normal(deviation);
    return values;
  }

 private:
  uint64_t state_;
};

}  // namespace shardspeed::test
