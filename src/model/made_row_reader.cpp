#include "model/row_reader.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

// Rows of tensors that no file has.

namespace shardspeed {

namespace {

// splitmix64 (Steele, Lea and Flood 2014): a counter in, well-mixed bits out.
uint64_t mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15ull;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

// Random weights are one run of values, again and again: at hundreds of millions a second and thread, and not at tens,
// as making each would be. A prime number of them: rows of a matrix begin at different places, so no two are alike.
constexpr int64_t kPatternValues = (int64_t{1} << 20) - 3;
using Pattern = std::vector<uint8_t>;

Pattern makePattern(int64_t cols, DType dtype) {
  const float scale = 3.4f / std::sqrt(static_cast<float>(cols)) / 65536.0f;  // uniform, variance 1 / cols
  std::vector<float> values(static_cast<size_t>(kPatternValues));
  for (int64_t i = 0; i < kPatternValues; i += 4) {
    const uint64_t bits = mix(static_cast<uint64_t>(i));
    for (int64_t lane = 0; lane < std::min<int64_t>(4, kPatternValues - i); ++lane)
      values[static_cast<size_t>(i + lane)] = static_cast<float>(static_cast<int16_t>(bits >> (16 * lane))) * scale;
  }
  Pattern pattern(static_cast<size_t>(kPatternValues) * dtypeSize(dtype));
  storeFloats(values.data(), kPatternValues, dtype, pattern.data());
  return pattern;
}

// The same for all readers that there are at a time.
std::shared_ptr<const Pattern> patternOf(int64_t cols, DType dtype) {
  static std::mutex mutex;
  static std::map<std::pair<int64_t, DType>, std::weak_ptr<const Pattern>> known;
  const std::lock_guard<std::mutex> lock(mutex);
  std::weak_ptr<const Pattern>& kept = known[{cols, dtype}];
  std::shared_ptr<const Pattern> pattern = kept.lock();
  if (!pattern) kept = pattern = std::make_shared<const Pattern>(makePattern(cols, dtype));
  return pattern;
}

class RandomRowReader : public RowReader {
 public:
  RandomRowReader(const std::string& role, int64_t cols, Range heldRows, Range heldCols, DType dtype)
      : cols_(cols), heldRows_(heldRows), heldCols_(heldCols), dtype_(dtype) {
    uint64_t seed = 0;
    for (const char c : role) seed = mix(seed ^ static_cast<uint8_t>(c));
    firstValue_ = static_cast<int64_t>(seed % static_cast<uint64_t>(kPatternValues));
  }

  int64_t rows() const override { return heldRows_.count; }
  int64_t cols() const override { return heldCols_.count; }
  int64_t storedRowBytes() const override { return cols() * static_cast<int64_t>(dtypeSize(dtype_)); }

  void read(int64_t first, int64_t count, DType dtype, void* out) const override {
    const std::shared_ptr<const Pattern> pattern = keptPattern(dtype);
    auto* target = static_cast<uint8_t*>(out);
    const auto size = static_cast<int64_t>(dtypeSize(dtype));
    for (int64_t row = first; row < first + count; ++row) {
      int64_t at = (firstValue_ + (heldRows_.first + row) * cols_ + heldCols_.first) % kPatternValues;
      for (int64_t left = heldCols_.count; left > 0; at = 0) {
        const int64_t run = std::min(left, kPatternValues - at);
        target = std::copy_n(pattern->data() + at * size, run * size, target);
        left -= run;
      }
    }
  }

 private:
  // Made by the first read: who only counts memory reads nothing.
  std::shared_ptr<const Pattern> keptPattern(DType dtype) const {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!pattern_ || patternType_ != dtype) pattern_ = patternOf(cols_, dtype);
    patternType_ = dtype;
    return pattern_;
  }

  int64_t cols_;  // of the whole tensor
  Range heldRows_;
  Range heldCols_;
  DType dtype_;
  int64_t firstValue_;  // of the pattern, that the tensor begins with
  mutable std::mutex mutex_;
  mutable std::shared_ptr<const Pattern> pattern_;
  mutable DType patternType_ = DType::kF32;
};

class SinusoidalRowReader : public RowReader {
 public:
  SinusoidalRowReader(int64_t rows, int64_t cols) : rows_(rows), cols_(cols) {}

  int64_t rows() const override { return rows_; }
  int64_t cols() const override { return cols_; }
  int64_t storedRowBytes() const override { return 0; }  // nothing is read

  void read(int64_t first, int64_t count, DType dtype, void* out) const override {
    const int64_t half = cols_ / 2;
    // transformers rounds frequencies and angles to fp32.
    const auto step = static_cast<float>(-std::log(10000.0) / static_cast<double>(std::max<int64_t>(half - 1, 1)));
    std::vector<float> values(static_cast<size_t>(cols_));
    auto* target = static_cast<uint8_t*>(out);
    for (int64_t row = first; row < first + count; ++row) {
      for (int64_t col = 0; col < cols_; ++col) {
        const auto exponent = static_cast<double>(static_cast<float>(col % half) * step);
        const auto angle = static_cast<double>(static_cast<float>(row) * static_cast<float>(std::exp(exponent)));
        const double value = col < half ? std::sin(angle) : col < 2 * half ? std::cos(angle) : 0;
        values[static_cast<size_t>(col)] = static_cast<float>(value);
      }
      storeFloats(values.data(), cols_, dtype, target);
      target += cols_ * static_cast<int64_t>(dtypeSize(dtype));
    }
  }

 private:
  int64_t rows_, cols_;
};

}  // namespace

std::unique_ptr<RowReader> makeRandomRowReader(const std::string& role, int64_t cols, Range heldRows, Range heldCols,
                                               DType dtype) {
  return std::make_unique<RandomRowReader>(role, cols, heldRows, heldCols, dtype);
}

std::unique_ptr<RowReader> makeSinusoidalRowReader(int64_t rows, int64_t cols) {
  return std::make_unique<SinusoidalRowReader>(rows, cols);
}

}  // namespace shardspeed
