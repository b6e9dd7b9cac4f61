#include <algorithm>

#include "cuda/activation.cuh"
#include "cuda/element.cuh"
#include "cuda/experts.h"
#include "cuda/launch.cuh"
#include "cuda/norm.cuh"
#include "cuda/ptx.cuh"
#include "cuda/reduce.cuh"

// Routing of a step's rows to their experts, in four launches and all in fp32: norm, logits, choice, and the plan by
// which the products that follow find their rows.
//
// Norm: a block a row, which is read once and written twice, for the router and for the experts.
//
// Logits: a warp computes kExperts experts for kTokens rows. Lane i has columns 4 i ... 4 i + 3 of every 128, in one
// chain for each sum, and the lanes' sums meet in one order. So a logit has the same bits in each shape: one expert and
// one row where rows are few, which spreads the matrix over many warps and reads it once; four experts and eight rows
// for prompts, which reads 12 vectors for 32 sums.
//
// Choice: a warp a row. What experts are chosen by lies in shared memory, and each round takes the largest below the
// one before, so that nothing has to be marked as taken.
//
// Plan: one block sorts the rows by their experts, by counting. A step has few slots, and one block needs no launch
// between counts, starts and places. The order of an expert's slots is that of chance and changes no result.

namespace shardspeed::cuda {

namespace {

constexpr int kWarps = 4;
constexpr int kThreads = 32 * kWarps;
constexpr int kMostPlanThreads = 1024;
constexpr int kMostPlanWarps = kMostPlanThreads / 32;

template <typename T>
__global__ void __launch_bounds__(kNormThreads)
    normalizeForExpertsKernel(const float* in, int64_t inStride, int cols, int paddedCols, RowNorm norm, float* wide,
                              T* narrow, int64_t outStride) {
  NormShared& shared = sharedMemory<NormShared>();
  pdlWait();
  pdlTrigger();
  const int64_t row = blockIdx.x;
  normalize<1>(in + row * inStride, 0, 1, cols, paddedCols, norm, shared, [&](int, int col, const float(&values)[4]) {
    const int64_t at = row * outStride + col;
    *reinterpret_cast<float4*>(wide + at) = make_float4(values[0], values[1], values[2], values[3]);
    *reinterpret_cast<uint2*>(narrow + at) = make_uint2(pack2<T>(values[0], values[1]), pack2<T>(values[2], values[3]));
  });
}

template <int kExperts, int kTokens>
__global__ void __launch_bounds__(kThreads)
    routerLogitsKernel(const float* x, const float* router, const float* bias, int rows, int columns, int outputs,
                       float* logits, int64_t logitStride) {
  const int lane = threadIdx.x % 32;
  const int firstExpert = (static_cast<int>(blockIdx.x) * kWarps + static_cast<int>(threadIdx.x) / 32) * kExperts;
  const int firstRow = static_cast<int>(blockIdx.y) * kTokens;
  pdlWait();
  pdlTrigger();
  if (firstExpert >= outputs) return;
  // The last one again where there are no more, rather than a branch between loads.
  const float* weights[kExperts];
  const float* tokens[kTokens];
#pragma unroll
  for (int e = 0; e < kExperts; ++e)
    weights[e] = router + static_cast<int64_t>(min(firstExpert + e, outputs - 1)) * columns;
#pragma unroll
  for (int t = 0; t < kTokens; ++t) tokens[t] = x + static_cast<int64_t>(min(firstRow + t, rows - 1)) * columns;
  float sums[kExperts * kTokens] = {};
#pragma unroll(kExperts* kTokens == 1 ? 8 : 1)
  for (int col = 4 * lane; col < columns; col += 128) {
    float4 read[kExperts];
#pragma unroll
    for (int e = 0; e < kExperts; ++e) read[e] = *reinterpret_cast<const float4*>(weights[e] + col);
#pragma unroll
    for (int t = 0; t < kTokens; ++t) {
      const float4 token = *reinterpret_cast<const float4*>(tokens[t] + col);
#pragma unroll
      for (int e = 0; e < kExperts; ++e) {
        float& sum = sums[e * kTokens + t];
        sum = fmaf(read[e].x, token.x, sum);
        sum = fmaf(read[e].y, token.y, sum);
        sum = fmaf(read[e].z, token.z, sum);
        sum = fmaf(read[e].w, token.w, sum);
      }
    }
  }
  __syncwarp();
  const int which = sumAcrossLanes<kExperts * kTokens>(sums);
  const int expert = firstExpert + which / kTokens, row = firstRow + which % kTokens;
  // Of the lanes that have the same sum the first.
  if (lane % (32 / (kExperts * kTokens)) == 0 && expert < outputs && row < rows)
    logits[row * logitStride + expert] = bias ? __fadd_rn(sums[0], bias[expert]) : sums[0];
}

// RouterSpec as a kernel's argument.
struct RouterRule {
  int experts = 0;
  int perToken = 0;
  RouterScoring scoring = RouterScoring::kSoftmax;
  bool normalise = false;
  float scale = 1;
  float jitter = 0;
  int groups = 0;  // 0 = none
  int chosenGroups = 0;
  int bestOfGroup = 0;
  const float* correction = nullptr;

  RouterRule(const ExpertsFeedForward& spec, const float* corrections)
      : experts(static_cast<int>(spec.count)),
        perToken(static_cast<int>(spec.perToken)),
        scoring(spec.router.scoring),
        normalise(spec.router.normalise),
        scale(spec.router.scale),
        jitter(spec.router.jitter),
        correction(corrections) {
    if (!spec.router.groups) return;
    groups = static_cast<int>(spec.router.groups->count);
    chosenGroups = static_cast<int>(spec.router.groups->chosen);
    bestOfGroup = static_cast<int>(spec.router.groups->best);
  }
};

// Values with their indices as numbers: the larger value first, of equal ones the lower index; NaN is the smallest. No
// two are equal.
using Place = unsigned long long;
constexpr Place kAboveAll = ~Place{0};

__device__ __forceinline__ Place placeOf(float value, int index) {
  const uint32_t bits = __float_as_uint(__fadd_rn(value, 0.0f));  // -0 equals 0
  const uint32_t rank = value != value ? 0 : bits >> 31 ? ~bits : bits | 0x80000000u;
  return static_cast<Place>(rank) << 32 | ~static_cast<uint32_t>(index);
}
__device__ __forceinline__ int indexOf(Place place) {
  return static_cast<int>(~static_cast<uint32_t>(place));
}

// The largest of the warp's values that is below `limit`.
__device__ __forceinline__ Place largestBelow(Place limit, const float* values, int count) {
  Place best = 0;
#pragma unroll 2
  for (int i = threadIdx.x % 32; i < count; i += 32) {
    const Place place = placeOf(values[i], i);
    if (place < limit && place > best) best = place;
  }
  __syncwarp();
#pragma unroll 1
  for (int distance = 16; distance > 0; distance >>= 1) {
    const Place other = __shfl_xor_sync(0xffffffffu, best, distance);
    best = other > best ? other : best;
  }
  return best;
}

// Logits become scores, each of which the same lane reads and writes.
__device__ __forceinline__ void scoreRow(const RouterRule& rule, float* logits) {
  const int lane = threadIdx.x % 32;
  if (rule.scoring == RouterScoring::kSigmoid)
#pragma unroll 2
    for (int e = lane; e < rule.experts; e += 32) logits[e] = sigmoidOf(logits[e]);
  if (rule.scoring != RouterScoring::kSoftmax) return;
  float most = -INFINITY, sum = 0;
#pragma unroll 2
  for (int e = lane; e < rule.experts; e += 32) most = fmaxf(most, logits[e]);
  __syncwarp();
  most = warpMax(most);
#pragma unroll 2
  for (int e = lane; e < rule.experts; e += 32) {
    const float power = expf(__fsub_rn(logits[e], most));
    logits[e] = power;
    sum = __fadd_rn(sum, power);
  }
  __syncwarp();
  sum = warpSum(sum);
#pragma unroll 2
  for (int e = lane; e < rule.experts; e += 32) logits[e] = logits[e] / sum;
}

// Takes the experts of all groups but the best ones out of `ranking`. A lane has whole groups.
__device__ __forceinline__ void leaveGroups(const RouterRule& rule, float* ranking, float* sums) {
  const int lane = threadIdx.x % 32, size = rule.experts / rule.groups;
  for (int group = lane; group < rule.groups; group += 32) {
    const float* own = ranking + group * size;
    Place last = kAboveAll;
    float sum = 0;
#pragma unroll 1
    for (int i = 0; i < rule.bestOfGroup; ++i) {
      Place best = 0;
#pragma unroll 1
      for (int e = 0; e < size; ++e) {
        const Place place = placeOf(own[e], e);
        if (place < last && place > best) best = place;
      }
      last = best;
      sum = __fadd_rn(sum, own[indexOf(best)]);
    }
    sums[group] = sum;
  }
  __syncwarp();
  for (int group = lane; group < rule.groups; group += 32) {
    const Place place = placeOf(sums[group], group);
    int ahead = 0;
#pragma unroll 1
    for (int other = 0; other < rule.groups; ++other) ahead += placeOf(sums[other], other) > place;
    if (ahead < rule.chosenGroups) continue;
#pragma unroll 1
    for (int e = 0; e < size; ++e) ranking[group * size + e] = -INFINITY;
  }
  __syncwarp();
}

// The share of an expert among those that are left and near to it (transformers, modeling_phimoe.py, sparsemixer).
__device__ __forceinline__ float nearShare(const RouterRule& rule, const float* logits, Place chosen) {
  const float most = logits[indexOf(chosen)];
  float sum = 0;
#pragma unroll 1
  for (int e = threadIdx.x % 32; e < rule.experts; e += 32) {
    const float logit = logits[e];
    const bool isLeft = placeOf(logit, e) <= chosen && logit > -INFINITY;
    const bool isFar = __fsub_rn(most, logit) / fmaxf(fabsf(logit), most) > 2 * rule.jitter;
    if (isLeft && !isFar) sum = __fadd_rn(sum, expf(__fsub_rn(logit, most)));
  }
  __syncwarp();
  return 1.0f / warpSum(sum);
}

// What one lane does to the weights that it wrote.
__device__ __forceinline__ void finishWeights(const RouterRule& rule, float* weights) {
  if (rule.scoring == RouterScoring::kTopkSoftmax) {
    const float most = weights[0];
    float sum = 0;
#pragma unroll 1
    for (int i = 0; i < rule.perToken; ++i) {
      const float power = expf(__fsub_rn(weights[i], most));
      weights[i] = power;
      sum = __fadd_rn(sum, power);
    }
#pragma unroll 1
    for (int i = 0; i < rule.perToken; ++i) weights[i] = weights[i] / sum;
  }
  float sum = 0;
  if (rule.normalise)
#pragma unroll 1
    for (int i = 0; i < rule.perToken; ++i) sum = __fadd_rn(sum, weights[i]);
  // The term of DeepSeek-V3, which is below the precision of any other sum.
  const float divisor = rule.normalise ? __fadd_rn(sum, 1e-20f) : 1.0f;
#pragma unroll 1
  for (int i = 0; i < rule.perToken; ++i) weights[i] = __fmul_rn(weights[i] / divisor, rule.scale);
}

__global__ void __launch_bounds__(kThreads)
    chooseKernel(RouterRule rule, const int32_t* positions, int rows, ExpertPlan plan) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int row = static_cast<int>(blockIdx.x * (blockDim.x / 32)) + warp;
  pdlWait();
  pdlTrigger();
  if (row >= rows) return;
  int32_t* chosen = plan.chosen + static_cast<int64_t>(row) * rule.perToken;
  float* weights = plan.weights + static_cast<int64_t>(row) * rule.perToken;
  if (positions[row] < 0) {
#pragma unroll 1
    for (int i = lane; i < rule.perToken; i += 32) chosen[i] = -1;
    return;
  }
  float* scores = plan.logits + row * plan.logitStride;
  float* ranking = &sharedMemory<float>() + warp * (rule.experts + rule.groups);
  const bool isNear = rule.scoring == RouterScoring::kSparseMixer;
  scoreRow(rule, scores);
#pragma unroll 2
  for (int e = lane; e < rule.experts; e += 32)
    ranking[e] = rule.correction && !isNear ? __fadd_rn(scores[e], rule.correction[e]) : scores[e];
  __syncwarp();
  if (rule.groups > 0 && !isNear) leaveGroups(rule, ranking, ranking + rule.experts);
  Place last = kAboveAll;
  for (int i = 0; i < rule.perToken; ++i) {
    last = largestBelow(last, ranking, rule.experts);
    const int expert = indexOf(last);
    const float weight = isNear ? nearShare(rule, scores, last) : scores[expert];
    if (lane != 0) continue;
    chosen[i] = expert;
    weights[i] = weight;
  }
  if (lane == 0) finishWeights(rule, weights);
}

struct Starts {
  int slots;
  int pieces;
};

// The sums of all threads before this one; *all = of all threads.
__device__ __forceinline__ Starts sumBefore(Starts own, Starts* ofWarps, Starts* all) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = static_cast<int>(blockDim.x) / 32;
  Starts upTo = own;
#pragma unroll
  for (int distance = 1; distance < 32; distance <<= 1) {
    const int slots = __shfl_up_sync(0xffffffffu, upTo.slots, distance);
    const int pieces = __shfl_up_sync(0xffffffffu, upTo.pieces, distance);
    if (lane >= distance) upTo.slots += slots, upTo.pieces += pieces;
  }
  if (lane == 31) ofWarps[warp] = upTo;
  __syncthreads();
  Starts before = {upTo.slots - own.slots, upTo.pieces - own.pieces};
  *all = {};
  for (int other = 0; other < warps; ++other) {
    const Starts sum = ofWarps[other];
    if (other < warp) before.slots += sum.slots, before.pieces += sum.pieces;
    all->slots += sum.slots, all->pieces += sum.pieces;
  }
  return before;
}

__global__ void __launch_bounds__(kMostPlanThreads)
    planKernel(int experts, int perToken, int slots, int pieceSlots, int pieces, ExpertPlan plan) {
  struct Shared {
    Starts ofWarps[kMostPlanWarps];
  };
  Shared& shared = sharedMemory<Shared>();
  int* counts = reinterpret_cast<int*>(&shared + 1);  // (experts), then each one's next slot
  const int thread = threadIdx.x, threads = blockDim.x;
  for (int e = thread; e < experts; e += threads) counts[e] = 0;
  pdlWait();
  pdlTrigger();
  __syncthreads();
  for (int i = thread; i < slots; i += threads)
    if (plan.chosen[i] >= 0) atomicAdd(&counts[plan.chosen[i]], 1);
  __syncthreads();
  const int each = (experts + threads - 1) / threads;
  const int first = min(thread * each, experts), end = min(first + each, experts);
  Starts own = {}, all;
  for (int e = first; e < end; ++e) own.slots += counts[e], own.pieces += (counts[e] + pieceSlots - 1) / pieceSlots;
  Starts next = sumBefore(own, shared.ofWarps, &all);
  for (int e = first; e < end; ++e) {
    const int count = counts[e];
    for (int at = 0; at < count; at += pieceSlots)
      plan.pieces[next.pieces++] = {e, next.slots + at, min(pieceSlots, count - at), 0};
    counts[e] = next.slots;
    next.slots += count;
  }
  for (int piece = all.pieces + thread; piece < pieces; piece += threads) plan.pieces[piece] = {};
  __syncthreads();
  for (int i = thread; i < slots; i += threads) {
    const int expert = plan.chosen[i];
    if (expert < 0) continue;
    const int row = i / perToken, slot = atomicAdd(&counts[expert], 1);
    int before = 0;
    for (int k = 0; k < perToken; ++k) before += plan.chosen[row * perToken + k] < expert;
    plan.rowOf[slot] = row;
    plan.weightOf[slot] = plan.weights[i];
    plan.slotOf[row * perToken + before] = slot;
  }
}

template <int kExperts, int kTokens>
void launchLogits(const RouterLogits& params, const ExpertPlan& plan, cudaStream_t stream) {
  constexpr int64_t kExpertsOfBlock = kExperts * kWarps;
  const dim3 grid(static_cast<unsigned>((params.outputs + kExpertsOfBlock - 1) / kExpertsOfBlock),
                  static_cast<unsigned>((params.rows + kTokens - 1) / kTokens));
  launch(routerLogitsKernel<kExperts, kTokens>, {"router", grid, dim3(kThreads), 0, stream}, params.x, params.router,
         params.bias, static_cast<int>(params.rows), static_cast<int>(padTo(params.cols, kColumnStep)),
         static_cast<int>(params.outputs), plan.logits, plan.logitStride);
}

}  // namespace

int64_t pieceSlots(int64_t slots, int64_t experts) {
  const int64_t average = slots / std::min(slots, experts);
  return average <= 8 ? 8 : average <= 48 ? 32 : 128;
}

int64_t mostPieces(int64_t slots, int64_t experts, int64_t pieceSlots) {
  const int64_t begun = std::min(slots, experts);
  return begun + (slots - begun) / pieceSlots;
}

int64_t mostPieces(int64_t slots, int64_t experts) {
  return mostPieces(slots, experts, 8);
}

void normalizeForExperts(DType dtype, int64_t rows, int64_t cols, const float* in, int64_t inStride,
                         const NormParams* norm, float* wide, void* narrow, int64_t outStride, cudaStream_t stream) {
  const LaunchConfig config{"norm ahead of experts", dim3(static_cast<unsigned>(rows)), dim3(kNormThreads),
                            sizeof(NormShared), stream};
  const int64_t paddedCols = padTo(cols, kColumnStep);
  if (dtype == DType::kF16)
    launch(normalizeForExpertsKernel<__half>, config, in, inStride, cols, paddedCols, RowNorm(norm), wide,
           static_cast<__half*>(narrow), outStride);
  else
    launch(normalizeForExpertsKernel<__nv_bfloat16>, config, in, inStride, cols, paddedCols, RowNorm(norm), wide,
           static_cast<__nv_bfloat16*>(narrow), outStride);
}

void computeRouterLogits(const RouterLogits& params, const ExpertPlan& plan, cudaStream_t stream) {
  if (params.rows <= 2) return launchLogits<1, 1>(params, plan, stream);
  if (params.rows <= 64) return launchLogits<1, 8>(params, plan, stream);
  launchLogits<4, 8>(params, plan, stream);
}

void chooseExperts(const ExpertsFeedForward& spec, const float* correction, const int32_t* positions, int64_t rows,
                   const ExpertPlan& plan, cudaStream_t stream) {
  const RouterRule rule(spec, correction);
  const size_t warpBytes = static_cast<size_t>(rule.experts + rule.groups) * sizeof(float);
  const auto warps = static_cast<int64_t>(std::clamp<size_t>(kMostSharedBytes / warpBytes, 1, kWarps));
  const LaunchConfig config{"choosing experts", dim3(static_cast<unsigned>((rows + warps - 1) / warps)),
                            dim3(static_cast<unsigned>(32 * warps)), static_cast<size_t>(warps) * warpBytes, stream};
  launch(chooseKernel, config, rule, positions, static_cast<int>(rows), plan);
}

void planExperts(const ExpertsFeedForward& spec, int64_t rows, const ExpertPlan& plan, cudaStream_t stream) {
  const int64_t slots = rows * spec.perToken;
  const int64_t threads = std::clamp<int64_t>(padTo(std::max(slots, spec.count), 32), 32, kMostPlanThreads);
  const size_t shared = kMostPlanWarps * sizeof(Starts) + static_cast<size_t>(spec.count) * sizeof(int);
  const int64_t most = pieceSlots(slots, spec.count);
  launch(planKernel, {"sorting by experts", dim3(1), dim3(static_cast<unsigned>(threads)), shared, stream},
         static_cast<int>(spec.count), static_cast<int>(spec.perToken), static_cast<int>(slots), static_cast<int>(most),
         static_cast<int>(mostPieces(slots, spec.count, most)), plan);
}

}  // namespace shardspeed::cuda
