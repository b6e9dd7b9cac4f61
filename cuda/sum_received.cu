#include "cuda/launch.cuh"
#include "cuda/rank_sum.cuh"

// Sums over ranks whose parts are in this rank's memory already, brought there by a library: a block a row, with bias,
// residual sum and the next norm; or a slice of all rows, which is given to the other ranks as it is.

namespace shardspeed::cuda {

namespace {

// Adds up the columns of all ranks' parts from `col` on, `own` being this rank's; others: of the rank after it in
// order.
template <typename P>
__device__ __forceinline__ Columns<P> sumOfRanks(const Received& received, const uint4& own, int64_t col) {
  Columns<P> sum = Columns<P>::zeros();
  const P* from = static_cast<const P*>(received.parts) + col;
#pragma unroll 4
  for (int rank = 0; rank < received.ranks; ++rank) {
    const bool mine = rank == received.rank;
    sum.add(Columns<P>(mine ? own : loadBits(from)));
    if (!mine) from += received.stride;
  }
  return sum;
}

template <typename T, typename P>
__global__ void __launch_bounds__(kSumThreads) sumReceivedKernel(SummedRows<P> rows, Received received) {
  constexpr int kQuads = Columns<P>::kQuads;
  NormShared& shared = sharedMemory<NormShared>();
  pdlWait();
  pdlTrigger();
  const int row = static_cast<int>(blockIdx.x);
  const int64_t offset = static_cast<int64_t>(row) * rows.stride;
  storeSums<1>(rows, Stretch<P>{row, 0, rows.cols}, [&](int first, const uint4(&own)[1], float4(&sums)[1][kQuads]) {
    const Columns<P> sum = sumOfRanks<P>(received, own[0], offset + first);
#pragma unroll
    for (int i = 0; i < kQuads; ++i) sums[0][i] = sum.quads[i];
  });
  if (!rows.narrow) return;
  __syncthreads();
  normalizeRow<T>(rows, row, shared);
}

template <typename P>
__global__ void __launch_bounds__(kSumThreads)
    sumSliceKernel(const P* in, float* out, int64_t count, Received received) {
  pdlWait();
  pdlTrigger();
  const int64_t col = (static_cast<int64_t>(blockIdx.x) * kSumThreads + threadIdx.x) * Columns<P>::kCount;
  if (col >= count) return;
  const Columns<P> sum = sumOfRanks<P>(received, loadBits(in + col), col);
#pragma unroll
  for (int i = 0; i < Columns<P>::kQuads; ++i) *reinterpret_cast<float4*>(out + col + 4 * i) = sum.quads[i];
}

}  // namespace

void sumReceived(const RankSum& sum, const Received& received) {
  if (sum.rows <= 0) return;
  const LaunchConfig config{"sumReceived", dim3(static_cast<unsigned>(sum.rows)), dim3(kSumThreads), sizeof(NormShared),
                            sum.stream};
  withSumTypes(
      sum, [&]<typename T, typename P>() { launch(sumReceivedKernel<T, P>, config, SummedRows<P>(sum), received); });
}

void sumSlice(DType dtype, const void* in, float* out, int64_t count, const Received& received, cudaStream_t stream) {
  if (count <= 0) return;
  const auto sum = [&]<typename P>() {
    constexpr int64_t kColsABlock = static_cast<int64_t>(kSumThreads) * Columns<P>::kCount;
    const auto blocks = static_cast<unsigned>((count + kColsABlock - 1) / kColsABlock);
    launch(sumSliceKernel<P>, {"sumSlice", dim3(blocks), dim3(kSumThreads), 0, stream}, static_cast<const P*>(in), out,
           count, received);
  };
  if (dtype == DType::kF32)
    sum.template operator()<float>();
  else if (dtype == DType::kF16)
    sum.template operator()<__half>();
  else
    sum.template operator()<__nv_bfloat16>();
}

}  // namespace shardspeed::cuda
