#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "model/shard.h"
#include "model/weight_plan.h"

namespace shardspeed {

// Gives rows of one role, wherever they come from. Any number of threads may read at once.
class RowReader {
 public:
  virtual ~RowReader() = default;
  virtual int64_t rows() const = 0;
  virtual int64_t cols() const = 0;
  // Bytes that one row takes where it is stored; what progress is counted in.
  virtual int64_t storedRowBytes() const = 0;
  // True where the elements of a row lie apart, so that reading some rows costs as much as reading all.
  virtual bool scattered() const { return false; }
  // Writes rows [first, first + count), row-major (count, cols), converted to dtype.
  virtual void read(int64_t first, int64_t count, DType dtype, void* out) const = 0;
};

// A checkpoint file to read from. Reports ERR_CHECKPOINT where it is gone, unreadable or not the file it was. It is
// read and not mapped: a mapped file that somebody shortens ends the process, a read one is an error. Of all files in
// the process only those read last are open, kMostOpen at most: a checkpoint may have more shards than the system lets
// a process open.
class WeightReader {
 public:
  static constexpr size_t kMostOpen = 16;

  explicit WeightReader(const WeightFile& file);
  ~WeightReader();
  WeightReader(const WeightReader&) = delete;
  WeightReader& operator=(const WeightReader&) = delete;

  const std::string& path() const { return path_; }
  int64_t bytes() const { return bytes_; }
  // Any number of threads may read at once.
  void read(int64_t offset, int64_t length, void* out) const;

 private:
  class Descriptor;
  struct OpenFiles;
  static OpenFiles& openFiles();
  // Of the file, opened again if it was closed meanwhile.
  std::shared_ptr<const Descriptor> descriptor() const;

  std::string path_;
  int64_t bytes_ = 0;
  uint64_t device_ = 0, inode_ = 0;
  mutable std::shared_ptr<const Descriptor> open_;  // guarded by the mutex of openFiles()
};

// Finite values that became infinite because fp16 cannot hold them, by tensor. Threads may add at once.
class OverflowCounts {
 public:
  void add(const std::string& tensor, int64_t count) {
    const std::lock_guard<std::mutex> lock(mutex_);
    counts_[tensor] += count;
  }
  std::map<std::string, int64_t> counts() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return counts_;
  }

 private:
  mutable std::mutex mutex_;
  std::map<std::string, int64_t> counts_;
};

// Rounds floats to dtype. Returns how many finite ones became infinite.
int64_t storeFloats(const float* values, int64_t count, DType dtype, void* out);

// Rows and columns of a view's tensor.
int64_t viewRows(const WeightView& view);
int64_t viewCols(const WeightView& view);

// Some rows and some columns of a tensor in a file. Each read takes the bytes it needs: little of what lies between
// them, and nothing is kept, so that resident memory holds the model once. overflows, if given, outlives the reader.
std::unique_ptr<RowReader> makeFileRowReader(const WeightView& view, std::shared_ptr<const WeightReader> file,
                                             Range rows, Range cols, OverflowCounts* overflows = nullptr);

// Seeded values of about 1 / sqrt(cols) of a tensor of cols columns, the same for a (role, row, col) whatever thread or
// rank asks: for benches without a checkpoint.
std::unique_ptr<RowReader> makeRandomRowReader(const std::string& role, int64_t cols, Range heldRows, Range heldCols,
                                               DType dtype);

// Rows of sinusoidal positions, of so many columns: SinusoidalPositions.
std::unique_ptr<RowReader> makeSinusoidalRowReader(int64_t rows, int64_t cols);

}  // namespace shardspeed
