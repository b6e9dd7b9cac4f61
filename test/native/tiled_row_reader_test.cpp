#include "model/tiled_row_reader.h"

#include <algorithm>

#include "check.h"
#include "random.h"
#include "stored.h"
#include "temp_file.h"

namespace shardspeed::test {

// A matrix in a file, whose element (row, col) is row * cols + col, and views of parts of it.
struct Numbered {
  Numbered(int64_t rowCount, int64_t colCount) : rows(rowCount), cols(colCount) {
    std::vector<uint8_t> bytes;
    for (int64_t i = 0; i < rows * cols; ++i) appendStored(DType::kF32, static_cast<float>(i), bytes);
    file = std::make_unique<TempFile>(bytes);
    readers = {std::make_shared<WeightReader>(file->weightFile())};
  }
  WeightView tile(Range heldRows, Range heldCols) const {
    WeightView view;
    view.role = "role";
    view.tensor = "the.tensor";
    view.byteOffset = (heldRows.first * cols + heldCols.first) * 4;
    view.shape = {heldRows.count, heldCols.count};
    view.strides = {cols, 1};
    view.firstRow = heldRows.first;
    view.firstCol = heldCols.first;
    return view;
  }
  std::unique_ptr<RowReader> open(const std::vector<WeightView>& tiles, Range heldRows, Range heldCols) const {
    std::vector<const WeightView*> views;
    for (const WeightView& tile : tiles) views.push_back(&tile);
    return makeRoleReader(views, readers, rows, cols, heldRows, heldCols);
  }
  void check(const std::vector<WeightView>& tiles, Range heldRows, Range heldCols) const {
    const auto reader = open(tiles, heldRows, heldCols);
    CHECK_EQ(reader->rows(), heldRows.count);
    CHECK_EQ(reader->cols(), heldCols.count);
    CHECK_EQ(reader->storedRowBytes(), heldCols.count * 4);
    for (const int64_t chunk : {heldRows.count, int64_t{1}, int64_t{3}})
      for (int64_t row = 0; row < heldRows.count; row += chunk) {
        const int64_t count = std::min(chunk, heldRows.count - row);
        std::vector<float> out(static_cast<size_t>(count * heldCols.count), -1);
        reader->read(row, count, DType::kF32, out.data());
        for (int64_t i = 0; i < count * heldCols.count; ++i)
          CHECK_EQ(out[static_cast<size_t>(i)], static_cast<float>((heldRows.first + row + i / heldCols.count) * cols +
                                                                   heldCols.first + i % heldCols.count));
      }
  }

  int64_t rows;
  int64_t cols;
  std::unique_ptr<TempFile> file;
  std::vector<std::shared_ptr<const WeightReader>> readers;
};

// Cuts [0, size) into some parts.
static std::vector<Range> cut(Random& random, int64_t size) {
  std::vector<Range> parts;
  for (int64_t first = 0; first < size;) {
    const int64_t count = random.between(1, size - first);
    parts.push_back({first, count});
    first += count;
  }
  return parts;
}

TEST(tiled_row_reader, tiles_of_any_cut_in_any_order) {
  Random random(90);
  const Numbered matrix(17, 23);
  for (int round = 0; round < (kReduced ? 20 : 200); ++round) {
    const Note note("round", round);
    std::vector<WeightView> tiles;
    for (const Range& rows : cut(random, 17))
      for (const Range& cols : cut(random, 23)) tiles.push_back(matrix.tile(rows, cols));
    for (size_t i = tiles.size(); i > 1; --i)
      std::swap(tiles[i - 1], tiles[static_cast<size_t>(random.between(0, static_cast<int64_t>(i) - 1))]);
    matrix.check(tiles, {0, 17}, {0, 23});
    const int64_t row = random.between(0, 16), col = random.between(0, 22);
    matrix.check(tiles, {row, random.between(1, 17 - row)}, {col, random.between(1, 23 - col)});
  }
}

TEST(tiled_row_reader, tiles_of_other_dtypes_and_orders) {
  // The lower half lies in another file, transposed and in fp16.
  const Numbered matrix(6, 4);
  std::vector<uint8_t> bytes;
  for (int64_t col = 0; col < 4; ++col)
    for (int64_t row = 3; row < 6; ++row) appendStored(DType::kF16, static_cast<float>(row * 4 + col), bytes);
  const TempFile other(bytes);
  WeightView lower = matrix.tile({3, 3}, {0, 4});
  lower.dtype = DType::kF16;
  lower.file = 1;
  lower.byteOffset = 0;
  lower.strides = {1, 3};
  const WeightView upper = matrix.tile({0, 3}, {0, 4});
  const auto reader = makeRoleReader(
      {&upper, &lower}, {matrix.readers[0], std::make_shared<WeightReader>(other.weightFile())}, 6, 4, {0, 6}, {0, 4});
  CHECK(reader->scattered());
  std::vector<float> out(24);
  reader->read(0, 6, DType::kF32, out.data());
  for (int i = 0; i < 24; ++i) CHECK_EQ(out[static_cast<size_t>(i)], static_cast<float>(i));
}

TEST(tiled_row_reader, tiles_that_do_not_make_up_the_tensor) {
  const Numbered matrix(6, 4);
  const auto open = [&](const std::vector<WeightView>& tiles) { matrix.open(tiles, {0, 6}, {0, 4}); };
  const WeightView upper = matrix.tile({0, 3}, {0, 4});
  CHECK_THROWS("ERR_CHECKPOINT", "the.tensor has 3 x 4 elements, expected 6 x 4", open({upper}));
  CHECK_THROWS("ERR_CHECKPOINT", "expected the rest of 6 x 4", open({upper, matrix.tile({3, 2}, {0, 4})}));
  WeightView low = matrix.tile({3, 3}, {0, 4});
  low.firstRow = 4;
  CHECK_THROWS("ERR_CHECKPOINT", "the.tensor", open({upper, low}));
  WeightView right = matrix.tile({0, 6}, {2, 2});
  right.firstCol = 3;
  CHECK_THROWS("ERR_CHECKPOINT", "the.tensor", open({matrix.tile({0, 6}, {0, 2}), right}));
}

}  // namespace shardspeed::test
