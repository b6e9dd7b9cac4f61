#include <string>
#include <vector>

#include "bench.h"
#include "cuda/projection.h"
#include "shapes.h"

// Norms on their own: what prefill runs ahead of a product, and models that normalise after the residual.

namespace shardspeed::bench {

void measureRows(Bench& bench) {
  std::vector<int64_t> rowCounts{1, 8, 64, 512, 2048};
  if (bench.options().quick) rowCounts = {1, 2048};
  if (bench.options().smoke) rowCounts = {3};
  const DType dtype = bench.options().dtype;
  for (const ModelShape& model : bench.models()) {
    if (model.hidden == 4096 && std::string(model.name) == "Llama-2-7B") continue;  // as wide as the other Llama
    const int64_t cols = model.hidden;
    const int64_t stride = cuda::padTo(cols, cuda::kColumnStep);
    const cuda::DeviceMemory weight = randomFloats(static_cast<size_t>(stride), 1);
    cuda::NormParams norm;
    norm.kind = model.isLlama ? NormKind::kRms : NormKind::kLayer;
    norm.weight = weight.as<float>();
    norm.bias = model.isLlama ? nullptr : weight.as<float>();
    for (const int64_t rows : rowCounts) {
      const cuda::DeviceMemory in = randomFloats(static_cast<size_t>(rows * stride), 1);
      const cuda::DeviceMemory out(static_cast<size_t>(rows * stride) * 2, "normalised rows");
      const std::string shape = std::to_string(rows) + " x " + std::to_string(cols);
      const auto elements = static_cast<double>(rows * cols);
      const double apart = bench.measure(1, [&](cudaStream_t stream, int) {
        cuda::normalizeRows(dtype, rows, cols, in.as<float>(), stride, &norm, out.as(), stride, stream);
      });
      bench.add({"rows", "normalizeRows", model.name, shape, apart, elements * 6});
      const double inPlace = bench.measure(1, [&](cudaStream_t stream, int) {
        cuda::normalizeStream(rows, cols, in.as<float>(), stride, norm, stream);
      });
      bench.add({"rows", "normalizeStream", model.name, shape, inPlace, elements * 8});
    }
  }
  bench.note("Rows of this size stay in the L2 cache, as they do between the kernels of a step.");
}

}  // namespace shardspeed::bench
