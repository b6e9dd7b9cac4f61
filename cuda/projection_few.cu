#include <cuda_runtime.h>

#include "cuda/launch.cuh"
#include "cuda/norm.cuh"
#include "cuda/projection.cuh"
#include "cuda/projection_paths.h"

// Products of 1 ... 64 tokens: decode steps. Their time is that of reading the weights once, so everything serves to
// have many loads of weights under way, always.
//
// A block is 8 warps and computes a group of 32 weight rows for all tokens, then goes on to another group. Warp w has
// segment w of the columns of these rows. A lane copies what it will multiply, 8 columns a row, to places of its own in
// a ring in shared memory, kDepth blocks of 32 columns ahead (2 KB of weights a warp each): no barrier is needed, since
// no one else reads them. Copies into registers would not stay under way: a wait for one load of registers is in
// machine code a wait for all of them. Weights are copied before the kernels ahead of this one are done; the last block
// of a group already copies the first of the next. The sums of the segments meet in shared memory.
//
// Weights lie row by row, a copy of a warp being 64 bytes of 8 rows. In an order of their own it would be one stretch,
// but cuBLASLt reads the same matrices, and in two orders they would be in memory twice.
//
// Tokens: where `in` is the fp32 residual stream, each block normalises its one or two rows into shared memory, which
// saves a launch and a round trip. Else they go through the ring with the weights. Each group reads all tokens again,
// from the L2 cache: of 64 tokens that is twice the weights. So a group has 64 rows where tokens are many and a matrix
// has such groups for all multiprocessors.

namespace shardspeed::cuda {

namespace {

constexpr int kWarps = kSegments;
constexpr int kThreads = 32 * kWarps;
constexpr int kTileTokens = 8;
constexpr int kTileRows = 16;
constexpr int kSmallGroup = 32 / kTileRows;  // tiles of weight rows
constexpr int kLargeGroup = 64 / kTileRows;
// A row of tokens ends in an odd number of blocks, so that two rows of one block lie in different banks.
constexpr int kRowEnd = kBlockColumns;
// More rows are normalised once, by a kernel of their own: here each block does it again, all out of the L2 cache.
constexpr int kMostFusedTokens = 2;

static_assert(kThreads == kNormThreads);

// What registers are shared out for: a multiprocessor runs one block of a kernel, and beside it one of the next, which
// already copies its weights. The sums of many tokens take too many registers for two.
constexpr int residentBlocks(int tiles, int rowTiles) {
  return tiles > 6 || rowTiles > kSmallGroup ? 1 : 2;
}

// Slots of a warp's ring. 48 KB under way on a multiprocessor keep the memory of an H200 busy, by Little's law with
// CUB's constants; the slot that is multiplied and waits for its copy comes on top. With one more where tokens take no
// room, blocks of two products still fit on a multiprocessor. Small devices give a block 99 KB.
constexpr size_t kLargeShared = 163 << 10;
constexpr int depthOf(int tiles, bool fused, bool large) {
  if (large) return fused ? 5 : tiles <= 4 ? 4 : 3;
  return tiles <= 2 ? 3 : 2;
}
// With groups of 64 rows, whose slots have twice the weights.
constexpr size_t kLargeGroupShared = 227 << 10;
constexpr int depthOfLargeGroup(int tiles) {
  return tiles <= 4 ? 3 : 2;
}
constexpr int kLeastLargeGroupTiles = 4;
constexpr int kMostSmallTiles = 6;  // of a small device

// Sums of one tile of 8 tokens, (segment, token, weight row).
template <int kRowTiles>
struct SegmentSums {
  // Rows of a tile's tokens end in other banks: lanes write (2 t, g) and read four neighbours.
  float values[kSegments][kTileTokens][kRowTiles * kTileRows + 4];
};

// Two of them, so that one barrier is enough: while a tile is finished the next may be written.
template <int kRowTiles>
struct Meeting {
  SegmentSums<kRowTiles> sums[2];
  NormShared norm;
};

// Adds the segments up and writes what comes out. The two warps that do it change from tile to tile.
template <typename T, int kRowTiles>
__device__ __forceinline__ void finishTile(const Product& product, const SegmentSums<kRowTiles>& sums, int group,
                                           int firstToken, int turn) {
  constexpr int kGroupRows = kRowTiles * kTileRows;
  constexpr int kWorkers = kGroupRows / kQuad * kTileTokens;
  const int worker = (static_cast<int>(threadIdx.x) + kThreads - turn * kWorkers % kThreads) % kThreads;
  const bool gated = product.finish.gated;
  const int quads = quadsOf(kGroupRows, gated);
  const int token = worker / quads;
  if (token >= kTileTokens || firstToken + token >= product.tokens) return;
  const int row = rowOfQuad(worker % quads, gated);
  float values[kQuad] = {}, ups[kQuad] = {};
#pragma unroll
  for (int segment = 0; segment < kSegments; ++segment) {
    const float* from = sums.values[segment][token] + row;
    const float4 read = *reinterpret_cast<const float4*>(from);
    values[0] = __fadd_rn(values[0], read.x);
    values[1] = __fadd_rn(values[1], read.y);
    values[2] = __fadd_rn(values[2], read.z);
    values[3] = __fadd_rn(values[3], read.w);
    if (!gated) continue;
    const float4 up = *reinterpret_cast<const float4*>(from + kGateBlock);
    ups[0] = __fadd_rn(ups[0], up.x);
    ups[1] = __fadd_rn(ups[1], up.y);
    ups[2] = __fadd_rn(ups[2], up.z);
    ups[3] = __fadd_rn(ups[3], up.w);
  }
  finishQuad<T>(product.finish, firstToken + token, group * kGroupRows + row, values, ups);
}

// What product.in holds: T, or rows of the fp32 stream that each block rounds to T, behind a norm or none. That is a
// constant of the kernel: code of all of them would be larger than what the instruction cache holds.
enum class Input { kElements, kStream, kLayerNorm, kRmsNorm };

// What a warp multiplies with one block of columns: the weights of the group, and the tokens where the block does not
// have them as normalised rows. A lane reads only what it copied itself.
template <int kTiles, int kRowTiles, bool kFused>
struct Slot {
  uint4 weights[2 * kRowTiles][32];  // rows g, g + 8, g + 16 ... of the group
  uint4 tokens[kTiles][32];
};
template <int kTiles, int kRowTiles>
struct Slot<kTiles, kRowTiles, true> {
  uint4 weights[2 * kRowTiles][32];
};

// rows (tokens, rowStride) in shared memory = norm(in)
template <typename T>
__device__ __forceinline__ void normalizeTokens(const Product& product, int cols, const RowNorm& norm,
                                                NormShared& shared, T* rows, int rowStride) {
  const auto put = [&](int row, int col, const float(&values)[4]) {
    const uint2 packed = make_uint2(pack2<T>(values[0], values[1]), pack2<T>(values[2], values[3]));
    *reinterpret_cast<uint2*>(rows + row * rowStride + col) = packed;
  };
  const auto* in = static_cast<const float*>(product.in);
  const int paddedCols = product.blocks * kBlockColumns;
  normalize<kMostFusedTokens>(in, product.inStride, product.tokens, cols, paddedCols, norm, shared, put);
  __syncthreads();
}

template <int kTiles, int kRowTiles>
using Sums = float[kRowTiles][kTiles][4];

// The sums of one tile of tokens, of this warp's segment.
template <int kTiles, int kRowTiles>
__device__ __forceinline__ void storeSums(SegmentSums<kRowTiles>& to, const Sums<kTiles, kRowTiles>& sums, int tile) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
#pragma unroll
  for (int t = 0; t < kTiles; ++t) {
    if (t != tile) continue;  // registers have no index
#pragma unroll
    for (int i = 0; i < kRowTiles; ++i) {
#pragma unroll
      for (int e = 0; e < 4; ++e)
        to.values[warp][tokenOfElement(lane, e)][i * kTileRows + rowOfElement(lane, e)] = sums[i][t][e];
    }
  }
}

// The blocks of columns that a warp multiplies, of one group after another, and where their copies stand.
template <typename T, int kTiles, int kRowTiles, bool kFused>
struct Copies {
  const T* weight;  // this lane's columns of row g of the group and block that come next
  const T* tokens;  // this lane's columns of row g of the next block's tokens
  int64_t weightStride;
  int64_t toNextGroup;  // from behind a group's last block of columns
  int64_t tokenStride;
  int tokenRows;
  int block = 0;
  int count;
  int groups;  // left, the present one included

  using RingSlot = Slot<kTiles, kRowTiles, kFused>;

  __device__ __forceinline__ bool any() const { return groups > 0; }

  __device__ __forceinline__ void copyWeights(RingSlot& to) const {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < 2 * kRowTiles; ++i) cpAsync16(&to.weights[i][lane], weight + i * 8 * weightStride);
  }

  __device__ __forceinline__ void copyTokens(RingSlot& to) const {
    if constexpr (!kFused) {
      const int lane = threadIdx.x % 32;
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) {
        const int row = tile * kTileTokens + lane / 4;
        const bool valid = row < tokenRows;
        cpAsync16(&to.tokens[tile][lane], tokens + (valid ? tile * kTileTokens * tokenStride : 0), valid);
      }
    }
  }

  __device__ __forceinline__ void advance() {
    weight += kBlockColumns;
    tokens += kBlockColumns;
    if (++block < count) return;
    block = 0;
    --groups;
    weight += toNextGroup;
    tokens -= count * kBlockColumns;
  }
};

template <typename T, int kTiles, int kDepth, Input kInput, int kRowTiles>
__global__ void __launch_bounds__(kThreads, residentBlocks(kTiles, kRowTiles))
    fewTokensKernel(Product product, int cols, RowNorm norm) {
  constexpr bool kFused = kInput != Input::kElements;
  static_assert(!kFused || kTiles == 1);
  constexpr int kGroupRows = kRowTiles * kTileRows;
  using RingSlot = Slot<kTiles, kRowTiles, kFused>;
  using Meeting = Meeting<kRowTiles>;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int first = segmentStart(product.blocks, warp);
  const int count = segmentStart(product.blocks, warp + 1) - first;
  const int groups = (product.weightRows + kGroupRows - 1) / kGroupRows;
  const int mine =
      (groups - static_cast<int>(blockIdx.x) + static_cast<int>(gridDim.x) - 1) / static_cast<int>(gridDim.x);
  const int paddedCols = product.blocks * kBlockColumns;
  const int laneColumn = first * kBlockColumns + 8 * (lane % 4);
  const int laneRow = blockIdx.x * kGroupRows + lane / 4;

  unsigned char* shared = &sharedMemory<unsigned char>();
  Meeting& meeting = *reinterpret_cast<Meeting*>(shared);
  auto* ring = reinterpret_cast<RingSlot*>(shared + sizeof(Meeting)) + warp * kDepth;
  T* rows = reinterpret_cast<T*>(shared + sizeof(Meeting) + kWarps * kDepth * sizeof(RingSlot));  // (tokens, rowStride)
  const int rowStride = paddedCols + kRowEnd;

  Copies<T, kTiles, kRowTiles, kFused> copies;
  copies.weightStride = paddedCols;
  copies.weight = static_cast<const T*>(product.weight) + static_cast<int64_t>(laneRow) * paddedCols + laneColumn;
  copies.toNextGroup = static_cast<int64_t>(gridDim.x) * kGroupRows * paddedCols - count * kBlockColumns;
  copies.tokenStride = product.inStride;
  copies.tokenRows = product.tokens;
  copies.tokens = static_cast<const T*>(product.in) + laneColumn;
  if (lane / 4 < product.tokens) copies.tokens += lane / 4 * product.inStride;
  copies.count = count;
  copies.groups = count > 0 ? mine : 0;

  // Weights of the first slots, which no kernel writes, before the kernels ahead are done.
  Copies<T, kTiles, kRowTiles, kFused> early = copies;
#pragma unroll 1
  for (int slot = 0; slot < kDepth; ++slot) {
    if (early.any()) {
      early.copyWeights(ring[slot]);
      early.advance();
    }
    if (kFused) cpAsyncCommit();
  }
  pdlWait();
  pdlTrigger();
  if (kFused) {
    copies = early;
    norm.on = kInput != Input::kStream;
    norm.kind = kInput == Input::kLayerNorm ? NormKind::kLayer : NormKind::kRms;
    normalizeTokens(product, cols, norm, meeting.norm, rows, rowStride);
  } else {
#pragma unroll 1
    for (int slot = 0; slot < kDepth; ++slot) {
      if (copies.any()) {
        copies.copyTokens(ring[slot]);
        copies.advance();
      }
      cpAsyncCommit();
    }
  }
  const T* fused = rows + lane / 4 * rowStride + laneColumn;
  const bool hasToken = lane / 4 < product.tokens;

  int turn = 0, slot = 0;
  for (int group = blockIdx.x; group < groups; group += gridDim.x) {
    Sums<kTiles, kRowTiles> sums = {};
#pragma unroll 1
    for (int block = 0; block < count; ++block) {
      cpAsyncWait<kDepth - 1>();
      RingSlot& here = ring[slot];
      uint4 weights[2 * kRowTiles];
#pragma unroll
      for (int i = 0; i < 2 * kRowTiles; ++i) weights[i] = here.weights[i][lane];
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) {
        uint4 fragment = make_uint4(0, 0, 0, 0);
        if constexpr (!kFused)
          fragment = here.tokens[tile][lane];
        else if (hasToken)
          fragment = *reinterpret_cast<const uint4*>(fused + block * kBlockColumns);
#pragma unroll
        for (int i = 0; i < kRowTiles; ++i)
          multiplyBlock<T>(sums[i][tile], weights[2 * i], weights[2 * i + 1], fragment);
      }
      if (copies.any()) {
        copies.copyWeights(here);
        copies.copyTokens(here);
        copies.advance();
      }
      cpAsyncCommit();
      slot = slot + 1 < kDepth ? slot + 1 : 0;
    }

#pragma unroll 1
    for (int tile = 0; tile < kTiles && tile * kTileTokens < product.tokens; ++tile, ++turn) {
      SegmentSums<kRowTiles>& meet = meeting.sums[turn % 2];
      storeSums<kTiles, kRowTiles>(meet, sums, tile);
      __syncthreads();
      finishTile<T>(product, meet, group, tile * kTileTokens, turn);
    }
  }
}

size_t rowBytes(int64_t blocks) {
  return static_cast<size_t>(blocks * kBlockColumns + kRowEnd) * 2;
}

template <int kTiles, int kRowTiles, bool kFused, int kDepth>
constexpr size_t ringBytes() {
  return sizeof(Meeting<kRowTiles>) + sizeof(Slot<kTiles, kRowTiles, kFused>) * kWarps * kDepth;
}
static_assert(ringBytes<2, kSmallGroup, false, depthOf(2, false, false)>() <= kMostSharedBytes);
static_assert(ringBytes<4, kSmallGroup, false, depthOf(4, false, false)>() <= kMostSharedBytes);
static_assert(ringBytes<kMostSmallTiles, kSmallGroup, false, depthOf(kMostSmallTiles, false, false)>() <=
              kMostSharedBytes);
static_assert(ringBytes<8, kSmallGroup, false, depthOf(8, false, true)>() <= kLargeShared);
// A product of the stream's rows and the one ahead of it or behind it, on a multiprocessor with 228 KB.
static_assert(ringBytes<1, kSmallGroup, false, depthOf(1, false, true)>() +
                  ringBytes<1, kSmallGroup, true, depthOf(1, true, true)>() + 2 * (8192 + kRowEnd) + 2 * 1024 <=
              228 << 10);
static_assert(ringBytes<8, kLargeGroup, false, depthOfLargeGroup(8)>() <= kLargeGroupShared);

int groupsOf(const Product& product, int rowTiles) {
  return (product.weightRows + rowTiles * kTileRows - 1) / (rowTiles * kTileRows);
}

template <typename T, int kTiles, int kDepth, Input kInput, int kRowTiles>
void launchKernel(const Product& product, int64_t cols, const NormParams* norm, cudaStream_t stream) {
  constexpr bool kFused = kInput != Input::kElements;
  const size_t rows = kFused ? product.tokens * rowBytes(product.blocks) : 0;
  const size_t shared = ringBytes<kTiles, kRowTiles, kFused, kDepth>() + rows;
  // As many blocks as run at once, all with as many groups to do.
  const int groups = groupsOf(product, kRowTiles);
  const int room = multiprocessors();
  const int rounds = (groups + room - 1) / room;
  const int blocks = (groups + rounds - 1) / rounds;
  const LaunchConfig config{"project", dim3(static_cast<unsigned>(blocks)), dim3(kThreads), shared, stream};
  launch(fewTokensKernel<T, kTiles, kDepth, kInput, kRowTiles>, config, product, cols, RowNorm(norm));
}

bool isLarge() {
  return mostSharedBytes() >= kLargeShared;
}

template <typename T, int kTiles, Input kInput>
void launchTiles(const Product& product, int64_t cols, const NormParams* norm, cudaStream_t stream) {
  constexpr bool kFused = kInput != Input::kElements;
  if constexpr (kTiles >= kLeastLargeGroupTiles) {
    if (mostSharedBytes() >= kLargeGroupShared && groupsOf(product, kLargeGroup) >= multiprocessors())
      return launchKernel<T, kTiles, depthOfLargeGroup(kTiles), kInput, kLargeGroup>(product, cols, norm, stream);
  }
  if (isLarge())
    launchKernel<T, kTiles, depthOf(kTiles, kFused, true), kInput, kSmallGroup>(product, cols, norm, stream);
  else if constexpr (kTiles <= kMostSmallTiles)
    launchKernel<T, kTiles, depthOf(kTiles, kFused, false), kInput, kSmallGroup>(product, cols, norm, stream);
}

template <typename T>
void launchFew(const Product& product, bool fused, const NormParams* norm, int64_t cols, cudaStream_t stream) {
  if (fused) {
    if (!norm) return launchTiles<T, 1, Input::kStream>(product, cols, norm, stream);
    if (norm->kind == NormKind::kLayer) return launchTiles<T, 1, Input::kLayerNorm>(product, cols, norm, stream);
    return launchTiles<T, 1, Input::kRmsNorm>(product, cols, norm, stream);
  }
  const int tiles = (product.tokens + kTileTokens - 1) / kTileTokens;
  if (tiles <= 1) return launchTiles<T, 1, Input::kElements>(product, cols, nullptr, stream);
  if (tiles <= 2) return launchTiles<T, 2, Input::kElements>(product, cols, nullptr, stream);
  if (tiles <= 4) return launchTiles<T, 4, Input::kElements>(product, cols, nullptr, stream);
  if (tiles <= 6) return launchTiles<T, 6, Input::kElements>(product, cols, nullptr, stream);
  return launchTiles<T, 8, Input::kElements>(product, cols, nullptr, stream);
}

}  // namespace

int64_t mostFewTokens() {
  return kTileTokens * (isLarge() ? 8 : kMostSmallTiles);
}

bool canNormalizeFew(int64_t tokens, int64_t inFeatures) {
  const size_t ring = isLarge() ? ringBytes<1, kSmallGroup, true, depthOf(1, true, true)>()
                                : ringBytes<1, kSmallGroup, true, depthOf(1, true, false)>();
  const size_t rows = static_cast<size_t>(tokens) * rowBytes(padTo(inFeatures, kColumnStep) / kBlockColumns);
  return tokens <= kMostFusedTokens && ring + rows <= mostSharedBytes();
}

void projectFew(DType dtype, const Product& product, bool fused, const NormParams* norm, int64_t inFeatures,
                cudaStream_t stream) {
  if (dtype == DType::kF16)
    launchFew<__half>(product, fused, norm, inFeatures, stream);
  else
    launchFew<__nv_bfloat16>(product, fused, norm, inFeatures, stream);
}

}  // namespace shardspeed::cuda
