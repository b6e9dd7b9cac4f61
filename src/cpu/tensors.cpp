#include "cpu/tensors.h"

#include <algorithm>

#include "base/half.h"

namespace shardspeed {

CpuMatrix::CpuMatrix(int64_t rows, int64_t cols, DType dtype)
    : rows_(rows), cols_(cols), dtype_(dtype), memory_(bytesOf(rows, cols, dtype), "weights", PageKind::kHuge) {}

template <typename T>
static void packRows(T* panels, int64_t cols, int64_t firstRow, int64_t count, const T* values) {
  for (int64_t done = 0; done < count;) {
    const int64_t row = firstRow + done;
    const int64_t lane = row % kLanes;
    const int64_t lanes = std::min(kLanes - lane, count - done);
    T* target = panels + row / kLanes * cols * kLanes + lane;
    const T* source = values + done * cols;
    for (int64_t k = 0; k < cols; ++k)
      for (int64_t i = 0; i < lanes; ++i) target[k * kLanes + i] = source[i * cols + k];
    done += lanes;
  }
}

void CpuMatrix::write(int64_t firstRow, int64_t count, const void* values) {
  if (dtype_ == DType::kF32)
    packRows(memory_.as<float>(), cols_, firstRow, count, static_cast<const float*>(values));
  else
    packRows(memory_.as<uint16_t>(), cols_, firstRow, count, static_cast<const uint16_t*>(values));
}

void CpuMatrix::readRow(int64_t row, float* out) const {
  const int64_t first = row / kLanes * cols_ * kLanes + row % kLanes;
  const auto* floats = memory_.as<float>() + first;
  const auto* halves = memory_.as<uint16_t>() + first;
  for (int64_t k = 0; k < cols_; ++k)
    out[k] = dtype_ == DType::kF32   ? floats[k * kLanes]
             : dtype_ == DType::kF16 ? halfToFloat(halves[k * kLanes])
                                     : bfloat16ToFloat(halves[k * kLanes]);
}

CpuVector::CpuVector(const float* values, int64_t size)
    : size_(size), values_(static_cast<size_t>(roundUp(size, kLanes))) {
  std::copy(values, values + size, values_.begin());
}

// A layer's part is used from its start on. Where it is several huge pages, they make reading a long context quicker,
// and what a short one takes too much is little beside the cache.
static PageKind kindOfCache(int64_t pages, const AttentionShape& shape) {
  return CpuKvCache::bytesOf(1, pages, shape) >= size_t{8} << 20 ? PageKind::kHuge : PageKind::kNormal;
}

CpuKvCache::CpuKvCache(int64_t layers, int64_t pages, const AttentionShape& shape)
    : layers_(layers),
      pages_(pages),
      kvHeads_(shape.kvHeads),
      headFloats_(headFloats(shape)),
      memory_(bytesOf(layers, pages, shape), "keys and values", kindOfCache(pages, shape)) {}

void CpuKvCache::copyPage(int64_t layer, const PageCopy& copy) {
  float* pages = head(layer, 0);
  std::copy_n(pages + copy.from * pageStride(), pageStride(), pages + copy.to * pageStride());
}

}  // namespace shardspeed
