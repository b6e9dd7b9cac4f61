#include "model/tiled_row_reader.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "base/error.h"

namespace shardspeed {

namespace {

struct Tile {
  int64_t firstRow;  // among the held ones
  int64_t firstCol;
  std::unique_ptr<RowReader> rows;
};

class TiledRowReader : public RowReader {
 public:
  TiledRowReader(std::vector<Tile> tiles, int64_t rows, int64_t cols)
      : tiles_(std::move(tiles)), rows_(rows), cols_(cols) {
    int64_t bytes = 0;
    for (const Tile& tile : tiles_) bytes += tile.rows->rows() * tile.rows->storedRowBytes();
    storedRowBytes_ = rows_ == 0 ? 0 : bytes / rows_;
  }

  int64_t rows() const override { return rows_; }
  int64_t cols() const override { return cols_; }
  int64_t storedRowBytes() const override { return storedRowBytes_; }
  bool scattered() const override {
    return std::any_of(tiles_.begin(), tiles_.end(), [](const Tile& tile) { return tile.rows->scattered(); });
  }

  void read(int64_t first, int64_t count, DType dtype, void* out) const override {
    const auto size = static_cast<int64_t>(dtypeSize(dtype));
    std::vector<uint8_t> part;
    for (const Tile& tile : tiles_) {
      const int64_t from = std::max(first, tile.firstRow);
      const int64_t to = std::min(first + count, tile.firstRow + tile.rows->rows());
      if (from >= to) continue;
      const int64_t cols = tile.rows->cols();
      uint8_t* target = static_cast<uint8_t*>(out) + ((from - first) * cols_ + tile.firstCol) * size;
      if (cols == cols_) {
        tile.rows->read(from - tile.firstRow, to - from, dtype, target);
        continue;
      }
      part.resize(static_cast<size_t>((to - from) * cols * size));
      tile.rows->read(from - tile.firstRow, to - from, dtype, part.data());
      for (int64_t row = 0; row < to - from; ++row)
        std::memcpy(target + row * cols_ * size, part.data() + row * cols * size, static_cast<size_t>(cols * size));
    }
  }

 private:
  std::vector<Tile> tiles_;
  int64_t rows_;
  int64_t cols_;
  int64_t storedRowBytes_;
};

Range overlap(Range a, Range b) {
  const int64_t first = std::max(a.first, b.first);
  return {first, std::max<int64_t>(0, std::min(a.first + a.count, b.first + b.count) - first)};
}

}  // namespace

std::unique_ptr<RowReader> makeRoleReader(const std::vector<const WeightView*>& views,
                                          const std::vector<std::shared_ptr<const WeightReader>>& files, int64_t rows,
                                          int64_t cols, Range heldRows, Range heldCols, OverflowCounts* overflows) {
  int64_t covered = 0;
  std::vector<Tile> tiles;
  for (const WeightView* view : views) {
    const Range ownRows{view->firstRow, viewRows(*view)}, ownCols{view->firstCol, viewCols(*view)};
    const std::shared_ptr<const WeightReader>& file = files.at(static_cast<size_t>(view->file));
    covered += ownRows.count * ownCols.count;
    if (ownRows.first + ownRows.count > rows || ownCols.first + ownCols.count > cols ||
        (view == views.back() && covered != rows * cols))
      throw Error("ERR_CHECKPOINT", file->path() + ": tensor " + view->tensor + " has " +
                                        std::to_string(ownRows.count) + " x " + std::to_string(ownCols.count) +
                                        " elements, expected " + (views.size() == 1 ? "" : "the rest of ") +
                                        std::to_string(rows) + " x " + std::to_string(cols));
    const Range takenRows = overlap(ownRows, heldRows), takenCols = overlap(ownCols, heldCols);
    if (takenRows.count == 0 || takenCols.count == 0) continue;
    tiles.push_back({takenRows.first - heldRows.first, takenCols.first - heldCols.first,
                     makeFileRowReader(*view, file, {takenRows.first - ownRows.first, takenRows.count},
                                       {takenCols.first - ownCols.first, takenCols.count}, overflows)});
  }
  const bool single =
      tiles.size() == 1 && tiles[0].rows->rows() == heldRows.count && tiles[0].rows->cols() == heldCols.count;
  if (single) return std::move(tiles[0].rows);
  return std::make_unique<TiledRowReader>(std::move(tiles), heldRows.count, heldCols.count);
}

}  // namespace shardspeed
