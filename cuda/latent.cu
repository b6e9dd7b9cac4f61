#include "cuda/latent.h"

#include "cuda/launch.cuh"
#include "cuda/ptx.cuh"

// Heads of latent attention, put together ahead of attention and narrowed behind it. Only bits are moved, each once:
// a thread has a unit of the output, 16 bytes where all parts of a head are whole units and else an element, and reads
// it from where it lies. A block has kThreads units of one row, so that a single token is spread over many blocks.

namespace shardspeed::cuda {

namespace {

constexpr int kThreads = 256;
constexpr int64_t kVector = 8;  // elements of 16 bytes

// LatentHeads in units.
struct HeadUnits {
  int heads;
  int dim;
  int shared;
  int value;
};

// A unit of a query or key: the shared ones come first, then those of the head.
template <typename Unit>
__global__ void __launch_bounds__(kThreads)
    joinKernel(HeadUnits shape, const Unit* queries, int64_t queryStride, const Unit* sharedKeys, int64_t sharedStride,
               const Unit* keysValues, int64_t keyStride, Unit* qkv, int64_t outStride) {
  pdlWait();
  pdlTrigger();
  const auto& [heads, dim, shared, value] = shape;
  const int64_t row = blockIdx.x;
  const int place = static_cast<int>(blockIdx.y * kThreads + threadIdx.x);
  if (place >= 3 * heads * dim) return;
  const int part = place / (heads * dim), head = place / dim % heads, unit = place % dim;
  const int own = dim - shared;
  const Unit* keys = keysValues + row * keyStride;
  Unit result{};
  if (part == 0)
    result = queries[row * queryStride + head * dim + (unit < shared ? own + unit : unit - shared)];
  else if (part == 1)
    result = unit < shared ? sharedKeys[row * sharedStride + unit] : keys[head * own + unit - shared];
  else if (unit < value)
    result = keys[heads * own + head * value + unit];
  qkv[row * outStride + place] = result;
}

template <typename Unit>
__global__ void __launch_bounds__(kThreads)
    narrowKernel(HeadUnits shape, const Unit* in, int64_t inStride, Unit* out, int64_t outStride) {
  pdlWait();
  pdlTrigger();
  const int64_t row = blockIdx.x;
  const int place = static_cast<int>(blockIdx.y * kThreads + threadIdx.x);
  if (place >= shape.heads * shape.value) return;
  out[row * outStride + place] = in[row * inStride + place / shape.value * shape.dim + place % shape.value];
}

// Calls run with a Unit and the number of elements that it has.
template <typename Run>
void inUnits(const LatentHeads& shape, Run run) {
  if (shape.headDim % kVector == 0 && shape.positionDims % kVector == 0 && shape.valueDim % kVector == 0)
    run(uint4{}, kVector);
  else
    run(uint16_t{}, int64_t{1});
}

HeadUnits unitsOf(const LatentHeads& shape, int64_t elements) {
  return {static_cast<int>(shape.heads), static_cast<int>(shape.headDim / elements),
          static_cast<int>(shape.positionDims / elements), static_cast<int>(shape.valueDim / elements)};
}

LaunchConfig unitsOfRows(const char* name, int64_t rows, int64_t units, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(rows), static_cast<unsigned>((units + kThreads - 1) / kThreads));
  return {name, grid, dim3(kThreads), 0, stream};
}

}  // namespace

void joinHeads(const LatentHeads& shape, int64_t rows, const ElementRows& queries, const ElementRows& sharedKeys,
               const ElementRows& keysValues, const ElementRows& qkv, cudaStream_t stream) {
  if (rows <= 0) return;
  inUnits(shape, [&](auto unit, int64_t elements) {
    using Unit = decltype(unit);
    const LaunchConfig config = unitsOfRows("joinHeads", rows, 3 * shape.heads * shape.headDim / elements, stream);
    launch(joinKernel<Unit>, config, unitsOf(shape, elements), static_cast<const Unit*>(queries.data),
           queries.stride / elements, static_cast<const Unit*>(sharedKeys.data), sharedKeys.stride / elements,
           static_cast<const Unit*>(keysValues.data), keysValues.stride / elements, static_cast<Unit*>(qkv.data),
           qkv.stride / elements);
  });
}

void narrowHeads(const LatentHeads& shape, int64_t rows, const ElementRows& in, const ElementRows& out,
                 cudaStream_t stream) {
  if (rows <= 0) return;
  inUnits(shape, [&](auto unit, int64_t elements) {
    using Unit = decltype(unit);
    const LaunchConfig config = unitsOfRows("narrowHeads", rows, shape.heads * shape.valueDim / elements, stream);
    launch(narrowKernel<Unit>, config, unitsOf(shape, elements), static_cast<const Unit*>(in.data),
           in.stride / elements, static_cast<Unit*>(out.data), out.stride / elements);
  });
}

}  // namespace shardspeed::cuda
