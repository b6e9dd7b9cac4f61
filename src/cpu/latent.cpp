#include "cpu/latent.h"

#include <algorithm>

namespace shardspeed {

void cpuJoinHeads(ThreadPool& pool, const LatentHeads& shape, int64_t rows, const CpuActivations& queries,
                  const CpuActivations& sharedKeys, const CpuActivations& keysValues, CpuActivations& qkv) {
  const auto& [heads, dim, shared, valueDim] = shape;
  const int64_t own = dim - shared;
  pool.forEach(rows, [&, heads = heads, dim = dim, shared = shared, valueDim = valueDim](int64_t row, int) {
    const float* query = queries.row(row);
    const float* key = keysValues.row(row);
    const float* value = key + heads * own;
    float* out = qkv.row(row);
    for (int64_t head = 0; head < heads; ++head, out += dim, query += dim) {
      std::copy_n(query + own, shared, out);
      std::copy_n(query, own, out + shared);
    }
    for (int64_t head = 0; head < heads; ++head, out += dim, key += own) {
      std::copy_n(sharedKeys.row(row), shared, out);
      std::copy_n(key, own, out + shared);
    }
    for (int64_t head = 0; head < heads; ++head, out += dim, value += valueDim) {
      std::copy_n(value, valueDim, out);
      std::fill_n(out + valueDim, dim - valueDim, 0.0f);
    }
  });
}

void cpuNarrowHeads(ThreadPool& pool, const LatentHeads& shape, int64_t rows, const CpuActivations& in,
                    CpuActivations& out) {
  pool.forEach(rows, [&](int64_t row, int) {
    for (int64_t head = 0; head < shape.heads; ++head)
      std::copy_n(in.row(row) + head * shape.headDim, shape.valueDim, out.row(row) + head * shape.valueDim);
  });
}

}  // namespace shardspeed
