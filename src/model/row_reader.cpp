#include "model/row_reader.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>

#include "base/error.h"
#include "base/half.h"

namespace shardspeed {

WeightReader::WeightReader(const WeightFile& file) : path_(file.path), bytes_(file.bytes) {
  descriptor_ = open(path_.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor_ < 0) throw Error("ERR_CHECKPOINT", path_ + ": cannot be opened: " + std::strerror(errno));
  struct stat status {};
  if (fstat(descriptor_, &status) != 0 || status.st_size != bytes_) {
    close(descriptor_);
    throw Error("ERR_CHECKPOINT", path_ + ": changed while it was being loaded: expected " + std::to_string(bytes_) +
                                      " bytes, found " + std::to_string(status.st_size));
  }
}

WeightReader::~WeightReader() {
  close(descriptor_);
}

void WeightReader::read(int64_t offset, int64_t length, void* out) const {
  for (int64_t done = 0; done < length;) {
    const ssize_t count =
        pread(descriptor_, static_cast<uint8_t*>(out) + done, static_cast<size_t>(length - done), offset + done);
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

// Copies count elements that lie `sourceStep` and `targetStep` bytes apart.
void convertRun(DType from, const uint8_t* source, int64_t sourceStep, DType to, uint8_t* target, int64_t targetStep,
                int64_t count) {
  if (from == to) {
    const size_t size = dtypeSize(from);
    if (sourceStep == static_cast<int64_t>(size) && targetStep == sourceStep) {
      std::memcpy(target, source, static_cast<size_t>(count) * size);
      return;
    }
    for (int64_t i = 0; i < count; ++i) std::memcpy(target + i * targetStep, source + i * sourceStep, size);
    return;
  }
  for (int64_t i = 0; i < count; ++i) storeFloat(to, loadFloat(from, source + i * sourceStep), target + i * targetStep);
}

class FileRowReader : public RowReader {
 public:
  FileRowReader(const WeightView& view, std::shared_ptr<const WeightReader> file)
      : view_(view), file_(std::move(file)), elementBytes_(static_cast<int64_t>(dtypeSize(view.dtype))) {
    cols_ = view_.shape.back();
    rows_ = 1;
    for (size_t d = 0; d + 1 < view_.shape.size(); ++d) rows_ *= view_.shape[d];
    // The headers were checked where they were read; this is the last look before memory is touched.
    int64_t lowest = 0, highest = 0;
    for (size_t d = 0; d < view_.shape.size(); ++d) {
      const int64_t reach = (view_.shape[d] - 1) * view_.strides[d];
      (reach < 0 ? lowest : highest) += reach;
    }
    if (view_.byteOffset + lowest * elementBytes_ < 0 ||
        view_.byteOffset + (highest + 1) * elementBytes_ > file_->bytes())
      throw Error("ERR_CHECKPOINT", file_->path() + ": tensor " + view_.tensor + " reaches outside the file");
  }

  int64_t rows() const override { return rows_; }
  int64_t cols() const override { return cols_; }
  int64_t storedRowBytes() const override { return cols_ * elementBytes_; }
  bool scattered() const override { return std::abs(view_.strides.back()) != 1 && cols_ > 1; }

  void read(int64_t first, int64_t count, DType dtype, void* out) const override {
    if (count == 0 || cols_ == 0) return;
    const int64_t colStride = view_.strides.back();
    const int64_t rowStride = count > 1 ? rowOffset(first + 1) - rowOffset(first) : colStride;
    if (dtype == view_.dtype && colStride == 1 && (count == 1 || (rowStride == cols_ && view_.shape.size() == 2))) {
      file_->read(view_.byteOffset + rowOffset(first) * elementBytes_, count * cols_ * elementBytes_, out);
      return;
    }
    const int64_t colReach = (cols_ - 1) * colStride;
    int64_t lowest = INT64_MAX, highest = INT64_MIN;
    for (int64_t row = first; row < first + count; ++row) {
      const int64_t start = rowOffset(row);
      lowest = std::min({lowest, start, start + colReach});
      highest = std::max({highest, start, start + colReach});
    }
    std::vector<uint8_t> bytes(static_cast<size_t>((highest - lowest + 1) * elementBytes_));
    file_->read(view_.byteOffset + lowest * elementBytes_, static_cast<int64_t>(bytes.size()), bytes.data());
    auto source = [&](int64_t row) { return bytes.data() + (rowOffset(row) - lowest) * elementBytes_; };
    auto* target = static_cast<uint8_t*>(out);
    const auto targetSize = static_cast<int64_t>(dtypeSize(dtype));
    if (view_.shape.size() == 2 && std::abs(rowStride) < std::abs(colStride)) {
      // A transposed view: walk the file in its own order.
      for (int64_t col = 0; col < cols_; ++col)
        convertRun(view_.dtype, source(first) + col * colStride * elementBytes_, rowStride * elementBytes_, dtype,
                   target + col * targetSize, cols_ * targetSize, count);
      return;
    }
    for (int64_t i = 0; i < count; ++i)
      convertRun(view_.dtype, source(first + i), colStride * elementBytes_, dtype, target + i * cols_ * targetSize,
                 targetSize, cols_);
  }

 private:
  // In elements, from byteOffset.
  int64_t rowOffset(int64_t row) const {
    int64_t offset = 0;
    for (size_t d = view_.shape.size() - 1; d-- > 0;) {
      offset += row % view_.shape[d] * view_.strides[d];
      row /= view_.shape[d];
    }
    return offset;
  }

  WeightView view_;
  std::shared_ptr<const WeightReader> file_;
  int64_t elementBytes_;
  int64_t rows_ = 0;
  int64_t cols_ = 0;
};

// splitmix64 (Steele, Lea and Flood 2014): a counter in, well-mixed bits out.
uint64_t mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15ull;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

class RandomRowReader : public RowReader {
 public:
  RandomRowReader(const std::string& role, int64_t rows, int64_t cols, DType dtype)
      : rows_(rows), cols_(cols), dtype_(dtype) {
    for (const char c : role) seed_ = mix(seed_ ^ static_cast<uint8_t>(c));
  }

  int64_t rows() const override { return rows_; }
  int64_t cols() const override { return cols_; }
  int64_t storedRowBytes() const override { return cols_ * static_cast<int64_t>(dtypeSize(dtype_)); }

  void read(int64_t first, int64_t count, DType dtype, void* out) const override {
    const float scale = 3.4f / std::sqrt(static_cast<float>(cols_)) / 65536.0f;  // uniform, variance 1 / cols
    auto* target = static_cast<uint8_t*>(out);
    const size_t size = dtypeSize(dtype);
    const int64_t start = first * cols_;
    uint64_t bits = 0;  // four values
    for (int64_t i = 0; i < count * cols_; ++i) {
      const int64_t index = start + i;
      if (i == 0 || index % 4 == 0) bits = mix(seed_ + static_cast<uint64_t>(index / 4));
      const auto lane = static_cast<int16_t>(bits >> (16 * (index % 4)));
      storeFloat(dtype, static_cast<float>(lane) * scale, target + static_cast<size_t>(i) * size);
    }
  }

 private:
  int64_t rows_;
  int64_t cols_;
  DType dtype_;
  uint64_t seed_ = 0;
};

}  // namespace

std::unique_ptr<RowReader> makeFileRowReader(const WeightView& view, std::shared_ptr<const WeightReader> file) {
  return std::make_unique<FileRowReader>(view, std::move(file));
}

std::unique_ptr<RowReader> makeRandomRowReader(const std::string& role, int64_t rows, int64_t cols, DType dtype) {
  return std::make_unique<RandomRowReader>(role, rows, cols, dtype);
}

}  // namespace shardspeed
