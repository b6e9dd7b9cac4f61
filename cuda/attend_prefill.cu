#include "cuda/attention.h"
#include "cuda/attention_args.cuh"
#include "cuda/attention_tile.cuh"
#include "cuda/launch.cuh"
#include "cuda/ptx.cuh"

// Attention of prompts over the paged cache: FlashAttention-2 (Dao, 2023) on tensor cores. No score ever reaches
// memory; a tile of 64 query rows reads every key and value that it sees once.
//
// Grid (heads of a KV head, KV heads, tiles), 4 warps of 16 rows. Heads come first, so that the query heads of one KV
// head run at the same time and find its pages in the L2 cache; tiles run in the order of the list, which should have
// the longest first. A block walks over the keys in blocks of 64 (32 where heads are wide), cp.async bringing the next
// one or two while one is computed, keys and values apart, so that some are under way whenever others are waited for: q
// in registers (in shared memory where heads are wide), keys by ldmatrix, values by its transposed form, online softmax
// in fp32 in the accumulators' own layout, weights rounded to T for the second product.
//
// Blocks of keys begin at multiples of their size from position 0, and a block that a row does not see leaves the row's
// sums as they are. So a row adds the same numbers in the same order however its prompt was cut.

namespace shardspeed::cuda {

namespace {

// Waits until the oldest groups of copies are there. A ring of `stages` blocks has two for each but one under way, and
// `more` ones.
template <int kMore>
__device__ __forceinline__ void waitForOldest(int stages) {
  if (stages == kMostStages)
    cpAsyncWait<2 * (kMostStages - 2) + kMore>();
  else
    cpAsyncWait<2 * (kLeastStages - 2) + kMore>();
  __syncthreads();
}

template <typename T, int kDim>
__global__ void __launch_bounds__(kPrefillThreads)
    prefillKernel(AttentionArgs<T> args, const RowTile* tiles, int stages) {
  using S = Shape<T, kDim>;
  auto& shared = *reinterpret_cast<PrefillShared<T, kDim>*>(&sharedMemory<unsigned char>());
  // What describes the step was copied to the device before its first kernel, so it may be read ahead of the wait.
  const Tile tile(args, tiles[blockIdx.z]);
  const int kvHead = blockIdx.y;
  const int head = kvHead * args.group + static_cast<int>(blockIdx.x);
  const int warpRow = threadIdx.x / 32 * kWarpRows;
  const int position = tile.position + warpRow;  // of the warp's first row
  const int lastPosition = position + kWarpRows - 1;
  const BlockCopy<T, kDim> copy{args, tile, kvHead};
  const int firstBlock = tile.first / S::kKeys;
  const int lastBlock = tile.last / S::kKeys;
  int nextId = copy.idOf(firstBlock);
  const float slope = args.slope(head);
  const float* distances = args.distanceScores != nullptr ? args.distancesOf(head) : nullptr;
  const float sink = args.sink(head);
  pdlWait();
  pdlTrigger();

  loadQueries<T, kDim>(args, tile, head, shared.queries);
  WarpRows<T, kDim> rows;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    rows.largest[r] = sink;
    rows.total[r] = sink > -INFINITY && threadIdx.x % 4 == 0 ? 1 : 0;
  }
  int here = 0, next = 0;  // stages
  // The first rounds only copy.
#pragma unroll 1
  for (int block = firstBlock + 1 - stages; block <= lastBlock; ++block) {
    // The block's keys are there, and nobody reads the stage any more that is copied to next.
    if (block >= firstBlock) waitForOldest<1>(stages);
    copy.start(block + stages - 1, nextId, shared.stages[next]);
    nextId = copy.idOf(block + stages);
    next = next + 1 < stages ? next + 1 : 0;
    if (block < firstBlock) continue;
    if constexpr (!S::kWide)
      if (block == firstBlock) rows.loadQueries(shared.queries);
    const int firstKey = block * S::kKeys;
    const int lastKey = firstKey + S::kKeys - 1;
    const bool sees = warpRow < tile.rows && firstKey <= args.lastVisible(lastPosition, tile.length) &&
                      lastKey >= args.firstVisible(position);
    float scores[WarpRows<T, kDim>::kScoreTiles][4];
    if (sees) {
      rows.score(shared.queries, shared.stages[here][0], scores);
      if (!args.rule.plain || lastKey > args.lastVisible(position, tile.length) ||
          firstKey < args.firstVisible(lastPosition))
        rows.finishScores(args, firstKey, position, tile.length, slope, distances, scores);
      rows.weigh(args.rule.weight, scores);
    }
    waitForOldest<2>(stages);  // the block's values
    if (sees) rows.accumulate(shared.stages[here][1], scores);
    here = here + 1 < stages ? here + 1 : 0;
  }
  __syncwarp();
  if (warpRow < tile.rows) rows.store(args, tile, head, shared.results());
}

// As deep a ring as leaves room for two blocks on a multiprocessor.
template <typename T, int kDim>
int stagesFor(size_t room) {
  static_assert(sharedBytes<T, kDim>(kLeastStages) <= kMostSharedBytes);
  return 2 * sharedBytes<T, kDim>(kMostStages) <= room ? kMostStages : kLeastStages;
}

template <typename T>
void prefill(const AttentionParams& params, const StepView& step, const RowTile* tiles, int64_t tileCount,
             cudaStream_t stream) {
  const AttentionArgs<T> args = attentionArgs<T>(params, step);
  const dim3 grid(static_cast<unsigned>(args.group), static_cast<unsigned>(args.kvHeads),
                  static_cast<unsigned>(tileCount));
  withHeadDim<T>(args.paddedDim, [&]<typename Element, int kDim>() {
    const int stages = stagesFor<Element, kDim>(mostSharedBytes());
    const LaunchConfig config{"attention of prompts", grid, dim3(kPrefillThreads), sharedBytes<Element, kDim>(stages),
                              stream};
    launch(prefillKernel<Element, kDim>, config, args, tiles, stages);
  });
}

}  // namespace

void attendPrefill(const AttentionParams& params, const StepView& step, const RowTile* tiles, int64_t tileCount,
                   cudaStream_t stream) {
  if (tileCount == 0) return;
  if (params.dtype == DType::kF16)
    prefill<__half>(params, step, tiles, tileCount, stream);
  else
    prefill<__nv_bfloat16>(params, step, tiles, tileCount, stream);
}

}  // namespace shardspeed::cuda
