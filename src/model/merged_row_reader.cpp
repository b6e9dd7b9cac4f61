#include "model/merged_row_reader.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "base/error.h"
#include "model/tiled_row_reader.h"

namespace shardspeed {

namespace {

// Columns that are summed at once: their sums stay in registers.
constexpr int64_t kSumCols = 32;
// Floats of rows that are merged at once, where reading some rows does not cost as much as reading all.
constexpr int64_t kChunkFloats = 1 << 18;

// target[col] += scale * sum over k of left[k] * right[k * cols + col]
void addRow(const float* left, const float* right, int64_t ranks, int64_t cols, float scale, float* target) {
  for (int64_t first = 0; first < cols; first += kSumCols) {
    const int64_t count = std::min(kSumCols, cols - first);
    float sums[kSumCols] = {};
    if (count == kSumCols) {
      for (int64_t k = 0; k < ranks; ++k)
        for (int64_t i = 0; i < kSumCols; ++i) sums[i] += left[k] * right[k * cols + first + i];
    } else {
      for (int64_t k = 0; k < ranks; ++k)
        for (int64_t i = 0; i < count; ++i) sums[i] += left[k] * right[k * cols + first + i];
    }
    for (int64_t i = 0; i < count; ++i) target[first + i] += scale * sums[i];
  }
}

std::vector<float> readAll(const RowReader& reader, int64_t first, int64_t count) {
  std::vector<float> values(static_cast<size_t>(count * reader.cols()));
  reader.read(first, count, DType::kF32, values.data());
  return values;
}

struct Parts {
  std::string tensor;  // for messages
  float scale;
  std::unique_ptr<RowReader> base;       // (rows, cols)
  std::unique_ptr<RowReader> left;       // (rows, ranks)
  std::unique_ptr<RowReader> right;      // (ranks, cols)
  std::unique_ptr<RowReader> magnitude;  // (rows, 1) or null
};

// With a magnitude the parts have whole rows, since their length depends on all of them, and `held` says which columns
// are given.
class MergedRowReader : public RowReader {
 public:
  MergedRowReader(Parts parts, Range held, OverflowCounts* overflows)
      : parts_(std::move(parts)), held_(held), overflows_(overflows) {}

  int64_t rows() const override { return parts_.base->rows(); }
  int64_t cols() const override { return held_.count; }
  int64_t storedRowBytes() const override { return parts_.base->storedRowBytes() + parts_.left->storedRowBytes(); }
  bool scattered() const override { return parts_.base->scattered() || parts_.left->scattered(); }

  void read(int64_t first, int64_t count, DType dtype, void* out) const override {
    if (count == 0 || held_.count == 0) return;
    const std::vector<float> right = readAll(*parts_.right, 0, parts_.right->rows());
    const int64_t step = scattered() ? count : std::max<int64_t>(1, kChunkFloats / parts_.base->cols());
    const int64_t rowBytes = held_.count * static_cast<int64_t>(dtypeSize(dtype));
    int64_t overflows = 0;
    for (int64_t done = 0; done < count; done += step)
      overflows += readChunk(first + done, std::min(step, count - done), right, dtype,
                             static_cast<uint8_t*>(out) + done * rowBytes);
    if (overflows > 0 && overflows_) overflows_->add(parts_.tensor, overflows);
  }

 private:
  int64_t readChunk(int64_t first, int64_t count, const std::vector<float>& right, DType dtype, uint8_t* out) const {
    const int64_t cols = parts_.base->cols(), ranks = parts_.left->cols();
    const std::vector<float> left = readAll(*parts_.left, first, count);
    const std::vector<float> lengths =
        parts_.magnitude ? readAll(*parts_.magnitude, first, count) : std::vector<float>();
    std::vector<float> merged = readAll(*parts_.base, first, count);
    int64_t overflows = 0;
    for (int64_t row = 0; row < count; ++row) {
      float* values = merged.data() + row * cols;
      addRow(left.data() + row * ranks, right.data(), ranks, cols, parts_.scale, values);
      if (parts_.magnitude) setLength(values, cols, lengths[static_cast<size_t>(row)]);
      overflows += storeFloats(values + held_.first, held_.count, dtype,
                               out + row * held_.count * static_cast<int64_t>(dtypeSize(dtype)));
    }
    return overflows;
  }

  static void setLength(float* values, int64_t count, float length) {
    double squares = 0;
    for (int64_t i = 0; i < count; ++i) squares += static_cast<double>(values[i]) * static_cast<double>(values[i]);
    const auto factor = static_cast<float>(static_cast<double>(length) / std::sqrt(squares));
    for (int64_t i = 0; i < count; ++i) values[i] *= factor;
  }

  Parts parts_;
  Range held_;
  OverflowCounts* overflows_;
};

}  // namespace

std::unique_ptr<RowReader> makeMergedRowReader(const std::vector<const WeightView*>& views,
                                               const LowRankAddition& addition,
                                               const std::vector<std::shared_ptr<const WeightReader>>& files,
                                               int64_t rows, int64_t cols, Range heldRows, Range heldCols,
                                               OverflowCounts* overflows) {
  const Range readCols = addition.magnitude ? Range{0, cols} : heldCols;
  const int64_t ranks = viewCols(addition.left);
  const auto part = [&](const WeightView& view, int64_t partRows, int64_t partCols, Range own, Range ownCols) {
    return makeRoleReader({&view}, files, partRows, partCols, own, ownCols);
  };
  Parts parts;
  parts.tensor = views.front()->tensor;
  parts.scale = addition.scale;
  parts.base = makeRoleReader(views, files, rows, cols, heldRows, readCols);
  parts.left = part(addition.left, rows, ranks, heldRows, {0, ranks});
  parts.right = part(addition.right, ranks, cols, {0, ranks}, readCols);
  if (addition.magnitude) parts.magnitude = part(*addition.magnitude, rows, 1, heldRows, {0, 1});
  const Range given = addition.magnitude ? heldCols : Range{0, heldCols.count};
  return std::make_unique<MergedRowReader>(std::move(parts), given, overflows);
}

}  // namespace shardspeed
