#include "cuda/latent.h"

#include <memory>
#include <vector>

#include "cuda/device.h"
#include "random.h"

namespace shardspeed::test {

namespace {

int64_t strideOf(int64_t cols) {
  return (cols + 63) / 64 * 64;
}

// Rows of bits with a stride of their own, NaN behind the columns.
struct Rows {
  Rows(Random& random, int64_t rows, int64_t columns) : cols(columns), stride(strideOf(columns) + 64) {
    host.assign(static_cast<size_t>(rows * stride), 0xffff);
    for (int64_t row = 0; row < rows; ++row)
      for (int64_t col = 0; col < cols; ++col)
        host[static_cast<size_t>(row * stride + col)] = toElement(DType::kF16, random.normal());
    device = std::make_unique<DeviceArray<uint16_t>>(host);
  }
  uint16_t at(int64_t row, int64_t col) const { return host[static_cast<size_t>(row * stride + col)]; }
  cuda::ElementRows rows() const { return {device->data(), stride}; }

  int64_t cols, stride;
  std::vector<uint16_t> host;
  std::unique_ptr<DeviceArray<uint16_t>> device;
};

// Odd sizes, whole vectors, vectors but for one part, and more than a block of units.
const LatentHeads kShapes[] = {{3, 7, 2, 5}, {2, 24, 8, 16}, {2, 24, 8, 12}, {1, 8, 8, 8}, {5, 192, 64, 128}};

}  // namespace

TEST(latent, heads_are_joined_bit_by_bit) {
  for (const LatentHeads& shape : kShapes)
    for (const int64_t rows : {1, 3}) {
      const auto& [heads, dim, shared, valueDim] = shape;
      const Note note("heads", heads, "of", dim, "values", valueDim, "rows", rows);
      Random random(static_cast<uint64_t>(dim));
      const int64_t own = dim - shared, qkvStride = strideOf(3 * heads * dim);
      const Rows queries(random, rows, heads * dim), sharedKeys(random, rows, shared),
          keysValues(random, rows, heads * (own + valueDim));
      DeviceArray<uint16_t> qkv(static_cast<size_t>(rows * qkvStride));
      cuda::joinHeads(shape, rows, queries.rows(), sharedKeys.rows(), keysValues.rows(), {qkv.data(), qkvStride},
                      nullptr);
      std::vector<uint16_t> expected(qkv.size(), 0xffff);
      for (int64_t row = 0; row < rows; ++row)
        for (int64_t head = 0; head < heads; ++head)
          for (int64_t d = 0; d < dim; ++d) {
            const auto put = [&, heads = heads, dim = dim](int64_t part, uint16_t bits) {
              expected[static_cast<size_t>(row * qkvStride + (part * heads + head) * dim + d)] = bits;
            };
            put(0, queries.at(row, head * dim + (d < shared ? own + d : d - shared)));
            put(1, d < shared ? sharedKeys.at(row, d) : keysValues.at(row, head * own + d - shared));
            put(2, d < valueDim ? keysValues.at(row, heads * own + head * valueDim + d) : 0);
          }
      CHECK_BITS(qkv.read().data(), expected.data(), static_cast<int64_t>(expected.size()));
    }
}

TEST(latent, heads_are_narrowed_bit_by_bit) {
  for (const LatentHeads& shape : kShapes) {
    const auto& [heads, dim, shared, valueDim] = shape;
    const Note note("heads", heads, "of", dim, "values", valueDim);
    Random random(static_cast<uint64_t>(dim));
    constexpr int64_t kRows = 3;
    const Rows in(random, kRows, heads * dim);
    const int64_t outStride = strideOf(heads * valueDim);
    DeviceArray<uint16_t> out(static_cast<size_t>(kRows * outStride));
    cuda::narrowHeads(shape, kRows, in.rows(), {out.data(), outStride}, nullptr);
    std::vector<uint16_t> expected(out.size(), 0xffff);
    for (int64_t row = 0; row < kRows; ++row)
      for (int64_t head = 0; head < heads; ++head)
        for (int64_t d = 0; d < valueDim; ++d)
          expected[static_cast<size_t>(row * outStride + head * valueDim + d)] = in.at(row, head * dim + d);
    CHECK_BITS(out.read().data(), expected.data(), static_cast<int64_t>(expected.size()));
  }
}

}  // namespace shardspeed::test
