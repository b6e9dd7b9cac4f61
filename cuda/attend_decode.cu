#include <algorithm>

#include "cuda/attention.h"
#include "cuda/attention_args.cuh"
#include "cuda/attention_pages.cuh"
#include "cuda/attention_sums.cuh"
#include "cuda/decode_splits.cuh"
#include "cuda/launch.cuh"
#include "cuda/projection_paths.h"
#include "cuda/ptx.cuh"
#include "cuda/rotary.cuh"

// Attention of one token a sequence over its pages, with the rotary embedding and the KV append of that token: one
// launch where there were three, and q, k and v of the token never go back to memory. What is left is reading the cache
// once.
//
// Grid (items, kvHeads, subgroups), 4 warps. A block takes a stretch of a sequence's pages and 8 query heads of
// one KV head (kHeads, the width of an mma), so that grouped queries share every key and value read; larger groups take
// several blocks, which find the pages in the L2 cache. A warp takes every fourth page and copies the next ones' keys
// and values to a ring in shared memory while it computes. The stretches' sums (largest score, total weight, weighted
// values) go to the workspace in fp32, and the block that takes the sequence's last ticket joins them in the order of
// the stretches (split-KV attention: Dao et al., Flash-Decoding, 2023). It leaves the tickets at zero for the next
// launch.
//
// The items are listed by the host (decode_plan.h), so the grid is as large as the sequences are long together. Where a
// sequence is cut depends on its own length, the window and the shape alone. The list does not know windows: blocks
// beyond the last stretch that a window leaves go at once, as do those that only fill the grid of a graph.
//
// Programmatic dependent launch: ahead of pdlWait() a block reads only what has been there since before this step's
// first kernel: the description of the step and the cache of earlier tokens. So the long way from page table to pages
// passes while the kernel before, which computes q, k and v, still drains. Where the kernel before stores a token that
// this one reads, as among drafts of one sequence, they must not overlap.
//
// Attention of few short sequences takes longer than reading its cache: few blocks wait for one thing after another.
// Then blocks behind those of the rows bring weights of the next product to the L2 cache meanwhile.

namespace shardspeed::cuda {

namespace {

constexpr int kThreads = kDecodeThreads;
constexpr int kWarps = kDecodeWarps;
constexpr int kHeads = kDecodeHeads;
constexpr int64_t kFetchedPiece = 4096;

// Behind the wait: until then the kernel before keeps the memory busy, and its weights would push these out
// again.
template <typename T>
__device__ __forceinline__ void fetchNext(const DecodeArgs<T>& args) {
  const int pieces = static_cast<int>(args.nextBytes / kFetchedPiece);
  const int first = static_cast<int>(blockIdx.y * gridDim.x + blockIdx.x) * kThreads + static_cast<int>(threadIdx.x);
#pragma unroll 1
  for (int piece = first; piece < pieces; piece += static_cast<int>(gridDim.x * gridDim.y) * kThreads)
    prefetchL2(args.next + piece * kFetchedPiece, static_cast<uint32_t>(kFetchedPiece));
}

// q of the block's heads, and k and v where the row itself is in the block's stretch, into shared memory: all reads
// first, then positions. k and v also to the cache, by one of the subgroups. Ends with a barrier.
template <typename T, int kDim>
__device__ __forceinline__ void prepareRow(const AttentionArgs<T>& args, const DecodeBlock<T>& block,
                                           DecodeShared<T, kDim>& shared) {
  constexpr int kPieces = kDim / 8, kKey = kHeads;
  constexpr int kLinesAtOnce = kThreads / kPieces, kRounds = (kHeads + 2 + kLinesAtOnce - 1) / kLinesAtOnce;
  const int lines = block.ownsRow ? kHeads + 2 : kHeads;
  const auto isLine = [&](int line) { return line < block.heads || (line >= kKey && line < lines); };
  const auto rowOf = [&](int line) {
    const int own = args.heads + block.kvHead + (line == kKey ? 0 : args.kvHeads);
    return args.query(block.row, line < kKey ? block.firstHead + line : own);
  };
  const int at = static_cast<int>(threadIdx.x) % kPieces * 8;
  int firstLine = static_cast<int>(threadIdx.x) / kPieces;
  if (firstLine >= kLinesAtOnce) firstLine = lines;  // threads that no line is left for
  if (args.headDim % 8 == 0) {
    uint4 loaded[kRounds];
#pragma unroll
    for (int i = 0; i < kRounds; ++i) {
      const int line = firstLine + i * kLinesAtOnce;
      loaded[i] = uint4{0, 0, 0, 0};
      if (isLine(line) && at < args.headDim) loaded[i] = *reinterpret_cast<const uint4*>(rowOf(line) + at);
    }
#pragma unroll
    for (int i = 0; i < kRounds; ++i) {
      const int line = firstLine + i * kLinesAtOnce;
      if (line < lines) *reinterpret_cast<uint4*>(shared.lines[line] + at) = loaded[i];
    }
  } else {
#pragma unroll 1
    for (int line = firstLine; line < lines; line += kLinesAtOnce) {
#pragma unroll 1
      for (int j = at; j < at + 8; ++j)
        shared.lines[line][j] = isLine(line) && j < args.headDim ? rowOf(line)[j] : fromFloat<T>(0);
    }
  }
  __syncthreads();
  if (args.rotaryHalf > 0) {
#pragma unroll 1
    for (int line = threadIdx.x / 32; line < (block.ownsRow ? kKey + 1 : kHeads); line += kWarps)
      if (line == kKey || line < block.heads)
        turnHead(shared.lines[line], args.rotaryHalf, args.rotaryInterleaved, shared.cosines, shared.sines);
    __syncthreads();
  }
  if (!block.ownsRow || blockIdx.z > 0) return;
  T* page = args.page(block.pages[block.position / kPage], block.kvHead) + block.position % kPage * args.paddedDim;
#pragma unroll 1
  for (int i = threadIdx.x * 8; i < args.paddedDim; i += kThreads * 8) {
    *reinterpret_cast<uint4*>(page + i) = *reinterpret_cast<const uint4*>(shared.key() + i);
    *reinterpret_cast<uint4*>(page + kPage * args.paddedDim + i) = *reinterpret_cast<const uint4*>(shared.value() + i);
  }
}

// The warp's pages: what it computes next, and how far its copies are. Keys and values of a page are copied apart,
// since the place of the keys is free first.
template <typename T, int kDim>
struct PageWalk {
  using Shared = DecodeShared<T, kDim>;
  static constexpr int kPages = kRingPages<kDim>;
  static constexpr int kUnderWay = 2 * kPages - 1;  // copies that may be when the next one is needed

  const AttentionArgs<T>& args;
  const DecodeBlock<T>& block;
  typename Shared::RingPage* ring;
  const unsigned char* keys;  // of page 0, from where this lane copies
  const unsigned char* values;
  uint32_t rowBytes;
  uint32_t pageBytes;  // of all heads
  int page;
  int place = 0;  // in the ring, of `page`
  int copied;     // the page that is copied next
  int copiedId;
  int nextId;  // of the page behind that

  __device__ __forceinline__ PageWalk(const AttentionArgs<T>& args, const DecodeBlock<T>& block, Shared& shared)
      : args(args), block(block), ring(shared.warps[threadIdx.x / 32].ring) {
    rowBytes = static_cast<uint32_t>(args.paddedDim) * sizeof(T);
    pageBytes = static_cast<uint32_t>(args.pageElements) * sizeof(T);
    const uint32_t ofHead = static_cast<uint32_t>(block.kvHead) * (2 * kPage) * rowBytes;
    const auto* cache = reinterpret_cast<const unsigned char*>(args.cache);
    keys = unforeseen(cache + (ofHead + KeyPage<T, kDim>::laneOffset(rowBytes)));
    values = unforeseen(cache + (ofHead + kPage * rowBytes + ValuePage<T, kDim>::laneOffset(rowBytes)));
    page = copied = block.firstPage + static_cast<int>(threadIdx.x) / 32;
    copiedId = idOf(copied);
    nextId = idOf(copied + kWarps);
#pragma unroll 1
    for (int i = 0; i < kPages; ++i) {
      copyKeys<1>(ring[i]);
      copyValues<1>(ring[i]);
    }
  }

  __device__ __forceinline__ bool more() const {
    return page < block.endPage;
  }
  __device__ __forceinline__ int idOf(int which) const {
    return which < block.endPage ? block.pages[which] : 0;
  }
  __device__ __forceinline__ const unsigned char* pageOf(const unsigned char* first) const {
    return first + static_cast<uint64_t>(static_cast<uint32_t>(copiedId)) * pageBytes;
  }
  // Not the row's own token, which is not there yet.
  __device__ __forceinline__ PageRange rangeOf(int which) const {
    return {block.firstVisible - which * kPage, block.position - which * kPage};
  }

  template <int... kAtOnce>
  __device__ __forceinline__ void copyKeys(typename Shared::RingPage& to) const {
    if (copied < block.endPage)
      KeyPage<T, kDim>::template copy<kAtOnce...>(to.keys, pageOf(keys), rowBytes, rangeOf(copied));
    cpAsyncCommit();
  }
  template <int... kAtOnce>
  __device__ __forceinline__ void copyValues(typename Shared::RingPage& to) {
    if (copied < block.endPage)
      ValuePage<T, kDim>::template copy<kAtOnce...>(to.values, pageOf(values), rowBytes, rangeOf(copied));
    cpAsyncCommit();
    copied += kWarps;
    copiedId = nextId;
    nextId = idOf(copied + kWarps);
  }

  __device__ __forceinline__ void step(Shared& shared, float slope, WarpSums<T, kDim>& sums) {
    const bool own = page == block.position / kPage;
    const int slot = block.position % kPage;
    auto& here = ring[place];
    cpAsyncWait<kUnderWay>();
    if (own) KeyPage<T, kDim>::put(here.keys, shared.key(), slot);
    float scores[2][4];
    KeyPage<T, kDim>::multiply(here.keys, shared.lines[0], Shared::kQueryStride, scores);
    copyKeys(here);
    cpAsyncWait<kUnderWay>();
    if (own) ValuePage<T, kDim>::put(here.values, shared.value(), slot);
    sums.add(args, scores, here.values, slope, page * kPage, block.firstVisible, block.position);
    copyValues(here);
    page += kWarps;
    place = place + 1 < kPages ? place + 1 : 0;
  }
};

// Blocks that shared memory leaves room for on a multiprocessor with 227 KB, and so must registers.
template <int kDim>
constexpr int kResidentBlocks = kDim <= 32    ? 6
                                : kDim <= 64  ? 3
                                : kDim <= 96  ? 4
                                : kDim <= 192 ? 3
                                              : 2;

template <typename T, int kDim>
__global__ void __launch_bounds__(kThreads, kResidentBlocks<kDim>) decodeKernel(DecodeArgs<T> args) {
  const AttentionArgs<T>& a = args.attention;
  const DecodeBlock<T> block(args);
  const bool fetches = blockIdx.z == static_cast<unsigned>(args.subgroups);
  if (fetches || !block.hasWork()) {
    pdlWait();
    if (fetches) fetchNext(args);
    return;
  }
  auto& shared = sharedMemory<DecodeShared<T, kDim>>();
  PageWalk<T, kDim> walk(a, block, shared);
  turnAngles(block.position, a.step.inverseFrequencies + a.step.rotaryOffsets[block.row], a.rotaryHalf, shared.cosines,
             shared.sines);
  const int head = threadIdx.x % 32 / 4;
  const float slope = head < block.heads ? a.slope(block.firstHead + head) : 0;
  __syncthreads();
  pdlWait();
  pdlTrigger();
  prepareRow(a, block, shared);

  WarpSums<T, kDim> sums;
  // The sink counts once: with the first page.
  if (a.sinks != nullptr && block.split == 0 && threadIdx.x < 32 && head < block.heads) {
    sums.largest = a.sink(block.firstHead + head);
    sums.total = threadIdx.x % 4 == 0 ? 1 : 0;
  }
#pragma unroll 1
  while (walk.more()) walk.step(shared, slope, sums);
  __syncwarp();
  sums.store(shared, a.rule.weight);
  __syncthreads();

  // Once for the block's stretch, and in the block that comes last of a sequence's for all of them.
#pragma unroll 1
  for (int joins = 0;; ++joins) {
    finishHeads(args, block, shared, joins == 1);
    if (joins == 1 || block.splits == 1) return;
    __syncthreads();
    auto* counter = reinterpret_cast<uint32_t*>(block.slotOf(args, 0)) + blockIdx.y * args.subgroups + blockIdx.z;
    if (threadIdx.x == 0) shared.before = ticketOf(counter, block.splits);
    __syncthreads();
    if (shared.before + 1 != static_cast<uint32_t>(block.splits)) return;
    findShares(args, block, shared);
    __syncthreads();
  }
}

// Half of the L2 cache at most, where rows leave multiprocessors to spare.
size_t fetchedBytes(const AttentionParams& params, int64_t blocks) {
  if (params.next == nullptr || blocks >= multiprocessors()) return 0;
  const auto room = static_cast<size_t>(deviceAttribute(cudaDevAttrL2CacheSize)) / 2;
  return std::min(params.nextBytes, room) / kFetchedPiece * kFetchedPiece;
}

template <typename T>
void decode(const AttentionParams& params, const StepView& step, const DecodeItem* items, int64_t itemCount,
            void* workspace, cudaStream_t stream, bool follows) {
  const int64_t subgroups = subgroupsOf(params.shape);
  const size_t fetched = fetchedBytes(params, itemCount * params.shape.kvHeads * subgroups);
  const DecodeArgs<T> args{attentionArgs<T>(params, step),
                           items,
                           static_cast<unsigned char*>(workspace),
                           SplitSlot(params.shape),
                           static_cast<uint32_t>(SplitSlot(params.shape).bytes),
                           static_cast<int>(subgroups),
                           static_cast<int>(mostSplitsOf(params.shape)),
                           static_cast<const unsigned char*>(params.next),
                           static_cast<int64_t>(fetched)};
  const dim3 grid(static_cast<unsigned>(itemCount), static_cast<unsigned>(params.shape.kvHeads),
                  static_cast<unsigned>(subgroups + (fetched > 0 ? 1 : 0)));
  withHeadDim<T>(args.attention.paddedDim, [&]<typename Element, int kDim>() {
    constexpr size_t kShared = sizeof(DecodeShared<Element, kDim>);
    static_assert(kShared <= kMostSharedBytes);
    LaunchConfig config{"attention of generated tokens", grid, dim3(kThreads), kShared, stream};
    config.overlap = !follows;
    launch(decodeKernel<Element, kDim>, config, args);
  });
}

}  // namespace

size_t decodeWorkspaceBytes(const AttentionShape& shape, int64_t slots) {
  return SplitSlot(shape).bytes * static_cast<size_t>(slots);
}

int64_t decodeSlots(const AttentionShape& shape, int64_t maxRows) {
  constexpr int64_t kMostSlots = 4096;
  return std::min(kMostSlots, maxRows * mostSplitsOf(shape));
}

int64_t decodeSplits(const AttentionShape& shape, int64_t length) {
  const auto pages = static_cast<int>((length + kPage - 1) / kPage);
  return splitsOf(pages, static_cast<int>(mostSplitsOf(shape)));
}

void attendDecode(const AttentionParams& params, const StepView& step, const DecodeItem* items, int64_t itemCount,
                  void* workspace, cudaStream_t stream, bool follows) {
  if (itemCount == 0) return;
  if (params.dtype == DType::kF16)
    decode<__half>(params, step, items, itemCount, workspace, stream, follows);
  else
    decode<__nv_bfloat16>(params, step, items, itemCount, workspace, stream, follows);
}

}  // namespace shardspeed::cuda
