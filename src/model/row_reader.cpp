#include "model/row_reader.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <list>
#include <mutex>

#include "base/error.h"
#include "base/half.h"

namespace shardspeed {

class WeightReader::Descriptor {
 public:
  // Without O_NONBLOCK a pipe that took the file's place would be waited for.
  explicit Descriptor(const std::string& path) : number_(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {
    if (number_ < 0) throw Error("ERR_CHECKPOINT", path + ": cannot be opened: " + std::strerror(errno));
  }
  ~Descriptor() { close(number_); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int number() const { return number_; }

 private:
  int number_;
};

struct WeightReader::OpenFiles {
  std::mutex mutex;
  std::list<const WeightReader*> latest;  // those that are open, the one read last in front
};

WeightReader::OpenFiles& WeightReader::openFiles() {
  // Never destroyed: an engine may still load when the process exits.
  static auto& files = *new OpenFiles;
  return files;
}

WeightReader::WeightReader(const WeightFile& file) : path_(file.path), bytes_(file.bytes) {
  struct stat status {};
  if (stat(path_.c_str(), &status) != 0)
    throw Error("ERR_CHECKPOINT", path_ + ": cannot be opened: " + std::strerror(errno));
  device_ = status.st_dev;
  inode_ = status.st_ino;
  descriptor();
}

WeightReader::~WeightReader() {
  OpenFiles& files = openFiles();
  const std::lock_guard<std::mutex> lock(files.mutex);
  files.latest.remove(this);
}

std::shared_ptr<const WeightReader::Descriptor> WeightReader::descriptor() const {
  OpenFiles& files = openFiles();
  const std::lock_guard<std::mutex> lock(files.mutex);
  if (open_) {
    if (files.latest.front() != this) {
      files.latest.remove(this);
      files.latest.push_front(this);
    }
    return open_;
  }
  const auto opened = std::make_shared<const Descriptor>(path_);
  struct stat status {};
  if (fstat(opened->number(), &status) != 0 || status.st_size != bytes_)
    throw Error("ERR_CHECKPOINT", path_ + ": changed while it was being loaded: expected " + std::to_string(bytes_) +
                                      " bytes, found " + std::to_string(status.st_size));
  if (status.st_dev != device_ || status.st_ino != inode_)
    throw Error("ERR_CHECKPOINT", path_ + ": was replaced by another file while it was being loaded");
  files.latest.push_front(this);
  open_ = opened;
  while (files.latest.size() > kMostOpen) {
    files.latest.back()->open_.reset();  // who reads it now keeps it open until the end of the read
    files.latest.pop_back();
  }
  return open_;
}

void WeightReader::read(int64_t offset, int64_t length, void* out) const {
  const std::shared_ptr<const Descriptor> file = descriptor();
  for (int64_t done = 0; done < length;) {
    const ssize_t count =
        pread(file->number(), static_cast<uint8_t*>(out) + done, static_cast<size_t>(length - done), offset + done);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0)
      throw Error("ERR_CHECKPOINT",
                  path_ + ": cannot be read at byte " + std::to_string(offset + done) + ": " + std::strerror(errno));
    if (count == 0)
      throw Error("ERR_CHECKPOINT", path_ + ": became shorter while it was being loaded: it ends at byte " +
                                        std::to_string(offset + done) + " of " + std::to_string(bytes_));
    done += count;
  }
}

namespace {

float loadFloat(DType dtype, const uint8_t* at) {
  if (dtype == DType::kF32) {
    float value;
    std::memcpy(&value, at, sizeof value);
    return value;
  }
  if (dtype == DType::kF64) {
    double value;
    std::memcpy(&value, at, sizeof value);
    return static_cast<float>(value);  // as torch does, also on its way to 16 bits
  }
  uint16_t bits;
  std::memcpy(&bits, at, sizeof bits);
  return dtype == DType::kF16 ? halfToFloat(bits) : bfloat16ToFloat(bits);
}

void storeFloat(DType dtype, float value, uint8_t* at) {
  if (dtype == DType::kF32) {
    std::memcpy(at, &value, sizeof value);
    return;
  }
  const uint16_t bits = dtype == DType::kF16 ? floatToHalf(value) : floatToBfloat16(value);
  std::memcpy(at, &bits, sizeof bits);
}

bool isStoredFinite(DType dtype, const uint8_t* at) {
  if (dtype != DType::kF64) return std::isfinite(loadFloat(dtype, at));
  double value;
  std::memcpy(&value, at, sizeof value);
  return std::isfinite(value);
}

// A run (see convertRun) to fp16, where finite values may become infinite: returns how many do.
int64_t convertRunToHalf(DType from, const uint8_t* source, int64_t sourceStep, uint8_t* target, int64_t targetStep,
                         int64_t count) {
  int64_t overflows = 0;
  for (int64_t i = 0; i < count; ++i, source += sourceStep, target += targetStep) {
    const uint16_t half = floatToHalf(loadFloat(from, source));
    if ((half & 0x7fff) == 0x7c00 && isStoredFinite(from, source)) ++overflows;
    std::memcpy(target, &half, sizeof half);
  }
  return overflows;
}

// Copies count elements that lie `sourceStep` and `targetStep` bytes apart. Returns how many are too large for `to`.
int64_t convertRun(DType from, const uint8_t* source, int64_t sourceStep, DType to, uint8_t* target, int64_t targetStep,
                   int64_t count) {
  if (from == to) {
    const size_t size = dtypeSize(from);
    if (sourceStep == static_cast<int64_t>(size) && targetStep == sourceStep) {
      std::memcpy(target, source, static_cast<size_t>(count) * size);
      return 0;
    }
    for (int64_t i = 0; i < count; ++i) std::memcpy(target + i * targetStep, source + i * sourceStep, size);
    return 0;
  }
  if (to == DType::kF16) return convertRunToHalf(from, source, sourceStep, target, targetStep, count);
  for (int64_t i = 0; i < count; ++i) storeFloat(to, loadFloat(from, source + i * sourceStep), target + i * targetStep);
  return 0;
}

// Bytes worth a read of their own where what lies between is not wanted.
constexpr int64_t kLeastRead = 256;

class FileRowReader : public RowReader {
 public:
  FileRowReader(const WeightView& view, std::shared_ptr<const WeightReader> file, Range rows, Range cols,
                OverflowCounts* overflows)
      : view_(view),
        file_(std::move(file)),
        overflows_(overflows),
        elementBytes_(static_cast<int64_t>(dtypeSize(view.dtype))),
        rows_(rows),
        cols_(cols.count) {
    // The headers were checked where they were read; this is the last look before memory is touched.
    int64_t lowest = 0, highest = 0;
    for (size_t d = 0; d < view_.shape.size(); ++d) {
      const int64_t reach = (view_.shape[d] - 1) * view_.strides[d];
      (reach < 0 ? lowest : highest) += reach;
    }
    if (view_.byteOffset + lowest * elementBytes_ < 0 ||
        view_.byteOffset + (highest + 1) * elementBytes_ > file_->bytes())
      throw Error("ERR_CHECKPOINT", file_->path() + ": tensor " + view_.tensor + " reaches outside the file");
    view_.byteOffset += cols.first * view_.strides.back() * elementBytes_;
    view_.shape.back() = cols.count;
  }

  int64_t rows() const override { return rows_.count; }
  int64_t cols() const override { return cols_; }
  int64_t storedRowBytes() const override { return cols_ * elementBytes_; }
  bool scattered() const override { return std::abs(view_.strides.back()) != 1 && cols_ > 1; }

  void read(int64_t first, int64_t count, DType dtype, void* out) const override {
    if (count == 0 || cols_ == 0) return;
    const int64_t colStride = view_.strides.back();
    const int64_t rowStride = count > 1 ? rowOffset(first + 1) - rowOffset(first) : colStride;
    const bool plainRows = view_.shape.size() == 2;
    if (dtype == view_.dtype && colStride == 1 && (count == 1 || (rowStride == cols_ && plainRows))) {
      file_->read(view_.byteOffset + rowOffset(first) * elementBytes_, count * cols_ * elementBytes_, out);
      return;
    }
    const Span span = spanOf(first, count);
    const bool sparse = span.elements * 4 > count * cols_ * 5;
    // Runs in the file: columns of a transposed view, else rows.
    const bool transposed = plainRows && std::abs(rowStride) < std::abs(colStride);
    const int64_t runBytes = (transposed ? count : cols_) * elementBytes_;
    if (sparse && runBytes >= kLeastRead && (transposed ? std::abs(rowStride) : std::abs(colStride)) == 1) {
      if (transposed)
        readColumns(first, count, rowStride, dtype, static_cast<uint8_t*>(out));
      else
        for (int64_t row = 0; row < count; ++row) readSpan(first + row, 1, dtype, rowOf(out, row, dtype));
      return;
    }
    readSpan(first, count, dtype, static_cast<uint8_t*>(out));
  }

 private:
  // Elements of the file, from byteOffset.
  struct Span {
    int64_t first;
    int64_t elements;
  };

  Span spanOf(int64_t first, int64_t count) const {
    const int64_t colReach = (cols_ - 1) * view_.strides.back();
    int64_t lowest = INT64_MAX, highest = INT64_MIN;
    for (int64_t row = first; row < first + count; ++row) {
      const int64_t start = rowOffset(row);
      lowest = std::min({lowest, start, start + colReach});
      highest = std::max({highest, start, start + colReach});
    }
    return {lowest, highest - lowest + 1};
  }

  std::vector<uint8_t> bytesOf(const Span& span) const {
    std::vector<uint8_t> bytes(static_cast<size_t>(span.elements * elementBytes_));
    file_->read(view_.byteOffset + span.first * elementBytes_, static_cast<int64_t>(bytes.size()), bytes.data());
    return bytes;
  }

  uint8_t* rowOf(void* out, int64_t row, DType dtype) const {
    return static_cast<uint8_t*>(out) + row * cols_ * static_cast<int64_t>(dtypeSize(dtype));
  }

  // With all that lies between them.
  void readSpan(int64_t first, int64_t count, DType dtype, uint8_t* out) const {
    const int64_t colStride = view_.strides.back();
    const int64_t rowStride = count > 1 ? rowOffset(first + 1) - rowOffset(first) : colStride;
    const auto targetSize = static_cast<int64_t>(dtypeSize(dtype));
    const Span span = spanOf(first, count);
    const std::vector<uint8_t> bytes = bytesOf(span);
    auto source = [&](int64_t row) { return bytes.data() + (rowOffset(row) - span.first) * elementBytes_; };
    if (view_.shape.size() == 2 && std::abs(rowStride) < std::abs(colStride)) {
      // A transposed view: walk the file in its own order.
      for (int64_t col = 0; col < cols_; ++col)
        convert(source(first) + col * colStride * elementBytes_, rowStride * elementBytes_, dtype,
                out + col * targetSize, cols_ * targetSize, count);
      return;
    }
    for (int64_t i = 0; i < count; ++i)
      convert(source(first + i), colStride * elementBytes_, dtype, rowOf(out, i, dtype), targetSize, cols_);
  }

  // Some rows of a transposed view: a read for every column.
  void readColumns(int64_t first, int64_t count, int64_t rowStride, DType dtype, uint8_t* out) const {
    const auto targetSize = static_cast<int64_t>(dtypeSize(dtype));
    std::vector<uint8_t> run(static_cast<size_t>(count * elementBytes_));
    const int64_t lowest = rowStride > 0 ? rowOffset(first) : rowOffset(first + count - 1);
    const uint8_t* start = rowStride > 0 ? run.data() : run.data() + (count - 1) * elementBytes_;
    for (int64_t col = 0; col < cols_; ++col) {
      file_->read(view_.byteOffset + (lowest + col * view_.strides.back()) * elementBytes_,
                  static_cast<int64_t>(run.size()), run.data());
      convert(start, rowStride * elementBytes_, dtype, out + col * targetSize, cols_ * targetSize, count);
    }
  }

  void convert(const uint8_t* source, int64_t sourceStep, DType dtype, uint8_t* target, int64_t targetStep,
               int64_t count) const {
    const int64_t overflows = convertRun(view_.dtype, source, sourceStep, dtype, target, targetStep, count);
    if (overflows > 0 && overflows_) overflows_->add(view_.tensor, overflows);
  }

  // In elements, from byteOffset.
  int64_t rowOffset(int64_t row) const {
    row += rows_.first;
    int64_t offset = 0;
    for (size_t d = view_.shape.size() - 1; d-- > 0;) {
      offset += row % view_.shape[d] * view_.strides[d];
      row /= view_.shape[d];
    }
    return offset;
  }

  WeightView view_;
  std::shared_ptr<const WeightReader> file_;
  OverflowCounts* overflows_;
  int64_t elementBytes_;
  Range rows_;
  int64_t cols_;
};

}  // namespace

int64_t storeFloats(const float* values, int64_t count, DType dtype, void* out) {
  return convertRun(DType::kF32, reinterpret_cast<const uint8_t*>(values), sizeof *values, dtype,
                    static_cast<uint8_t*>(out), static_cast<int64_t>(dtypeSize(dtype)), count);
}

int64_t viewRows(const WeightView& view) {
  int64_t rows = 1;
  for (size_t d = 0; d + 1 < view.shape.size(); ++d) rows *= view.shape[d];
  return rows;
}

int64_t viewCols(const WeightView& view) {
  return view.shape.back();
}

std::unique_ptr<RowReader> makeFileRowReader(const WeightView& view, std::shared_ptr<const WeightReader> file,
                                             Range rows, Range cols, OverflowCounts* overflows) {
  return std::make_unique<FileRowReader>(view, std::move(file), rows, cols, overflows);
}

}  // namespace shardspeed
