#include "model/merged_row_reader.h"

#include <cmath>

#include "base/error.h"
#include "check.h"
#include "model/tiled_row_reader.h"
#include "random.h"
#include "stored.h"
#include "temp_file.h"

namespace shardspeed::test {

namespace {

// A matrix and its factors, one behind the other in a file.
struct Stored {
  Stored(DType baseDtype, int64_t rowCount, int64_t colCount, int64_t rankCount, float largest = 1)
      : dtype(baseDtype), rows(rowCount), cols(colCount), ranks(rankCount) {
    Random random(7);
    std::vector<uint8_t> bytes;
    const auto fill = [&](int64_t count, DType as, float size, std::vector<float>& values) {
      for (int64_t i = 0; i < count; ++i) {
        values.push_back(roundedTo(as, random.normal(size)));
        appendStored(as, values.back(), bytes);
      }
    };
    fill(rows * cols, dtype, largest, base);
    leftAt = static_cast<int64_t>(bytes.size());
    fill(rows * ranks, DType::kF32, 1, left);
    rightAt = static_cast<int64_t>(bytes.size());
    fill(ranks * cols, DType::kF16, 1, right);
    magnitudeAt = static_cast<int64_t>(bytes.size());
    fill(rows, DType::kF32, 2, magnitude);
    file = std::make_unique<TempFile>(bytes);
    readers = {std::make_shared<WeightReader>(file->weightFile())};
  }

  static WeightView view(DType as, int64_t offset, std::vector<int64_t> shape, std::vector<int64_t> strides) {
    WeightView result;
    result.role = "role";
    result.tensor = "the.tensor";
    result.dtype = as;
    result.byteOffset = offset;
    result.shape = std::move(shape);
    result.strides = std::move(strides);
    return result;
  }
  WeightView baseView() const { return view(dtype, 0, {rows, cols}, {cols, 1}); }
  LowRankAddition addition(float scale, bool lengths = false) const {
    LowRankAddition result{"role", scale, view(DType::kF32, leftAt, {rows, ranks}, {ranks, 1}),
                           view(DType::kF16, rightAt, {ranks, cols}, {cols, 1}), std::nullopt};
    if (lengths) result.magnitude = view(DType::kF32, magnitudeAt, {rows, 1}, {1, 1});
    return result;
  }
  std::vector<float> read(const LowRankAddition& added, Range heldRows, Range heldCols, DType as, int64_t chunk,
                          OverflowCounts* overflows = nullptr) const {
    const WeightView whole = baseView();
    const auto reader = makeMergedRowReader({&whole}, added, readers, rows, cols, heldRows, heldCols, overflows);
    CHECK_EQ(reader->rows(), heldRows.count);
    CHECK_EQ(reader->cols(), heldCols.count);
    std::vector<float> values;
    for (int64_t row = 0; row < heldRows.count; row += chunk) {
      const int64_t count = std::min(chunk, heldRows.count - row);
      std::vector<uint8_t> bytes(static_cast<size_t>(count * heldCols.count) * dtypeSize(as));
      reader->read(row, count, as, bytes.data());
      for (size_t at = 0; at < bytes.size(); at += dtypeSize(as)) values.push_back(loadStored(as, bytes.data() + at));
    }
    return values;
  }
  double expected(float scale, int64_t row, int64_t col) const {
    double sum = 0;
    for (int64_t k = 0; k < ranks; ++k)
      sum += static_cast<double>(left[static_cast<size_t>(row * ranks + k)]) *
             static_cast<double>(right[static_cast<size_t>(k * cols + col)]);
    return static_cast<double>(base[static_cast<size_t>(row * cols + col)]) + static_cast<double>(scale) * sum;
  }

  DType dtype;
  int64_t rows, cols, ranks;
  int64_t leftAt = 0, rightAt = 0, magnitudeAt = 0;
  std::vector<float> base, left, right, magnitude;
  std::unique_ptr<TempFile> file;
  std::vector<std::shared_ptr<const WeightReader>> readers;
};

}  // namespace

TEST(merged_row_reader, adds_the_product_to_any_part) {
  const Stored stored(DType::kF16, 13, 75, 5);
  const LowRankAddition added = stored.addition(0.75f);
  const std::vector<float> whole = stored.read(added, {0, 13}, {0, 75}, DType::kF32, 13);
  for (int64_t row = 0; row < 13; ++row)
    for (int64_t col = 0; col < 75; ++col)
      CHECK_NEAR(whole[static_cast<size_t>(row * 75 + col)], stored.expected(0.75f, row, col), 2e-6);
  // The same bits whatever part a rank holds, and however many rows are read at once.
  for (const int64_t chunk : {int64_t{1}, int64_t{4}, int64_t{13}})
    for (const Range cols : {Range{0, 75}, Range{0, 40}, Range{33, 42}, Range{74, 1}}) {
      const std::vector<float> part = stored.read(added, {2, 9}, cols, DType::kF32, chunk);
      for (int64_t i = 0; i < 9 * cols.count; ++i)
        CHECK_EQ(part[static_cast<size_t>(i)],
                 whole[static_cast<size_t>((2 + i / cols.count) * 75 + cols.first + i % cols.count)]);
    }
}

TEST(merged_row_reader, rounds_once) {
  const Stored stored(DType::kBF16, 6, 40, 3);
  const LowRankAddition added = stored.addition(0.01f);
  const std::vector<float> exact = stored.read(added, {0, 6}, {0, 40}, DType::kF32, 6);
  for (const DType as : {DType::kF16, DType::kBF16}) {
    const std::vector<float> rounded = stored.read(added, {0, 6}, {0, 40}, as, 6);
    for (size_t i = 0; i < exact.size(); ++i) CHECK_EQ(rounded[i], roundedTo(as, exact[i]));
  }
}

TEST(merged_row_reader, sets_the_lengths_of_whole_rows) {
  const Stored stored(DType::kF32, 7, 50, 2);
  const LowRankAddition added = stored.addition(2, true);
  for (const Range cols : {Range{0, 50}, Range{20, 30}}) {
    const std::vector<float> part = stored.read(added, {0, 7}, cols, DType::kF32, 3);
    for (int64_t row = 0; row < 7; ++row) {
      double squares = 0;
      for (int64_t col = 0; col < 50; ++col) squares += std::pow(stored.expected(2, row, col), 2);
      const double factor = static_cast<double>(stored.magnitude[static_cast<size_t>(row)]) / std::sqrt(squares);
      for (int64_t i = 0; i < cols.count; ++i)
        CHECK_NEAR(part[static_cast<size_t>(row * cols.count + i)], factor * stored.expected(2, row, cols.first + i),
                   2e-6);
    }
  }
}

TEST(merged_row_reader, counts_sums_beyond_fp16) {
  const Stored stored(DType::kF16, 4, 8, 2);
  OverflowCounts overflows;
  const std::vector<float> values = stored.read(stored.addition(1e9f), {0, 4}, {0, 8}, DType::kF16, 4, &overflows);
  int64_t infinite = 0;
  for (const float value : values) infinite += std::isinf(value);
  CHECK(infinite > 0);
  CHECK_EQ(overflows.counts()["the.tensor"], infinite);
}

TEST(merged_row_reader, refuses_factors_that_do_not_fit) {
  const Stored stored(DType::kF32, 5, 9, 2);
  const auto refused = [&](const LowRankAddition& added) {
    CHECK_THROWS("ERR_CHECKPOINT", "expected", stored.read(added, {0, 5}, {0, 9}, DType::kF32, 5));
  };
  LowRankAddition rows = stored.addition(1), cols = stored.addition(1), ranks = stored.addition(1),
                  lengths = stored.addition(1, true);
  rows.left.shape[0] = 4;
  cols.right.shape[1] = 10;
  ranks.left.shape[1] = 3;
  lengths.magnitude->shape[0] = 6;
  for (const LowRankAddition& added : {rows, cols, ranks, lengths}) refused(added);
}

}  // namespace shardspeed::test
