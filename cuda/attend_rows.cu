#include "cuda/attention.h"
#include "cuda/attention_args.cuh"
#include "cuda/launch.cuh"
#include "cuda/ptx.cuh"
#include "cuda/reduce.cuh"

// Attention of one row and head a block, for what the kernels of tiles and of generated tokens do not know: products
// with relative positions, wide heads, and learned scores of distances of generated tokens. Plain fp32 arithmetic.
//
// Grid (rows, heads), 4 warps. A block walks over the keys that its row sees, 128 at a time: a thread computes the
// score of one key from the page where it lies, then each thread adds up the weighted values of some dimensions, so
// that values are read in whole lines. Every key and value is read once a row; those of a sequence's rows come from the
// L2 cache. That is far more than tiles read, and little beside the weights of the models that need it.
//
// Blocks of keys begin at multiples of 128 from position 0: a row has the same bits however its prompt was cut.

namespace shardspeed::cuda {

namespace {

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / 32;

struct RowShared {
  float query[kMostHeadDim];
  float sums[kMostHeadDim];
  float weights[kThreads];
  float largest[kWarps];
  float totals[kWarps];
};

// Products with relative positions: RelativeParams as a kernel wants them.
struct RelativeArgs {
  const float* rows;  // null: none
  int64_t stride;
  const int32_t* rowOf;
  int farthest;
  bool queries;
  bool keys;

  __device__ __forceinline__ const float* rowAt(int distance) const {
    return rows + rowOf[min(max(distance, -farthest), farthest) + farthest] * stride;
  }
};

template <typename T>
__device__ __forceinline__ const T* keyAt(const AttentionArgs<T>& args, const int32_t* pages, int kvHead, int key) {
  return args.page(pages[key / kPage], kvHead) + key % kPage * args.paddedDim;
}

// The sums of products of a head's elements: of the query with the row of the distance, of the key with it.
template <typename T>
__device__ __forceinline__ float relativeProduct(const AttentionArgs<T>& args, const RelativeArgs& relative, int head,
                                                 const float* query, const T* key, int distance) {
  const float* asQuery = relative.rowAt(distance) + static_cast<int64_t>(head) * args.headDim;
  const float* asKey = asQuery + static_cast<int64_t>(args.heads) * args.headDim;
  float ofQuery = 0, ofKey = 0;
  for (int j = 0; relative.queries && j < args.headDim; ++j) ofQuery = fmaf(query[j], asKey[j], ofQuery);
  for (int j = 0; relative.keys && j < args.headDim; ++j) ofKey = fmaf(toFloat(key[j]), asQuery[j], ofKey);
  return ofQuery + ofKey;
}

// The score of one key, as a power of two. query (padded with zeros) in shared memory.
template <typename T>
__device__ __forceinline__ float scoreOf(const AttentionArgs<T>& args, const RelativeArgs& relative, int head,
                                         const float* query, const T* key, int distance, float slope) {
  float product = 0;
  for (int j = 0; j < args.paddedDim; j += 8) {
    const Pack8<T> pack(*reinterpret_cast<const uint4*>(key + j));
#pragma unroll
    for (int i = 0; i < 8; ++i) product = fmaf(query[j + i], toFloat(pack.values[i]), product);
  }
  float score = args.rule.score(product, slope, distance) * args.rule.weight;
  if (args.distanceScores != nullptr) score = fmaf(args.distancesOf(head)[distance], kLog2E, score);
  if (relative.rows != nullptr)
    score = fmaf(relativeProduct(args, relative, head, query, key, distance), args.rule.scale, score);
  return score;
}

template <typename T>
__global__ void __launch_bounds__(kThreads) attendRowsKernel(AttentionArgs<T> args, RelativeArgs relative) {
  RowShared& shared = sharedMemory<RowShared>();
  const int row = blockIdx.x;
  const int head = blockIdx.y;
  const int kvHead = head / args.group;
  const int thread = threadIdx.x;
  // What describes the step was copied to the device before its first kernel, so it may be read ahead of the wait.
  const int position = args.step.positions[row];
  pdlWait();
  pdlTrigger();
  if (position < 0) return;
  const int first = args.firstVisible(position);
  const int last = args.lastVisible(position, args.step.lengths[row]);
  const int32_t* pages = args.step.pages + args.step.pageOffsets[row];
  const float slope = args.slope(head);
  float largest = args.sink(head) * args.rule.weight;
  float total = largest > -INFINITY ? 1 : 0;
  for (int j = thread; j < args.paddedDim; j += kThreads) {
    shared.query[j] = j < args.headDim ? toFloat(args.query(row, head)[j]) : 0.0f;
    shared.sums[j] = 0;
  }
  __syncthreads();
  for (int block = first / kThreads * kThreads; block <= last; block += kThreads) {
    const int key = block + thread;
    float score = -INFINITY;
    if (key >= first && key <= last)
      score = scoreOf(args, relative, head, shared.query, keyAt(args, pages, kvHead, key), key - position, slope);
    const float most = warpMax(score);
    if (thread % 32 == 0) shared.largest[thread / 32] = most;
    __syncthreads();
    float high = largest;  // finite from here on: every block has a key that the row sees
#pragma unroll
    for (int warp = 0; warp < kWarps; ++warp) high = fmaxf(high, shared.largest[warp]);
    const float factor = exp2Fast(largest - high);
    const float weight = exp2Fast(score - high);
    largest = high;
    shared.weights[thread] = weight;
    const float sum = warpSum(weight);
    if (thread % 32 == 0) shared.totals[thread / 32] = sum;
    __syncthreads();
    float ofBlock = 0;
#pragma unroll
    for (int warp = 0; warp < kWarps; ++warp) ofBlock += shared.totals[warp];
    total = fmaf(total, factor, ofBlock);
    const int begin = max(block, first), end = min(block + kThreads, last + 1);
    for (int j = thread; j < args.headDim; j += kThreads) {
      float value = shared.sums[j] * factor;
      for (int k = begin; k < end; ++k)
        value =
            fmaf(shared.weights[k - block], toFloat(keyAt(args, pages, kvHead, k)[kPage * args.paddedDim + j]), value);
      shared.sums[j] = value;
    }
    __syncthreads();
  }
  T* out = args.out + row * args.outStride + static_cast<int64_t>(head) * args.headDim;
  for (int j = thread; j < args.headDim; j += kThreads) out[j] = fromFloat<T>(shared.sums[j] / total);
}

template <typename T>
void attend(const AttentionParams& params, const StepView& step, int64_t rows, cudaStream_t stream) {
  const AttentionArgs<T> args = attentionArgs<T>(params, step);
  const RelativeParams& relative = params.relative;
  const RelativeArgs relativeArgs{relative.rows,     relative.stride,  relative.rowOf,
                                  relative.farthest, relative.queries, relative.keys};
  const dim3 grid(static_cast<unsigned>(rows), static_cast<unsigned>(args.heads));
  launch(attendRowsKernel<T>, {"attention of rows", grid, dim3(kThreads), sizeof(RowShared), stream}, args,
         relativeArgs);
}

}  // namespace

void attendRows(const AttentionParams& params, const StepView& step, int64_t rows, cudaStream_t stream) {
  if (rows == 0) return;
  if (params.dtype == DType::kF16)
    attend<__half>(params, step, rows, stream);
  else
    attend<__nv_bfloat16>(params, step, rows, stream);
}

}  // namespace shardspeed::cuda
