#include <cmath>
#include <limits>

#include "cuda/device.h"
#include "cuda/element.cuh"
#include "cuda/launch.cuh"
#include "cuda/ptx.cuh"
#include "cuda/reduce.cuh"

// Arithmetic, shuffles, votes and atomics of the emulator, against what the CUDA programming guide says of them.

namespace shardspeed::test {
namespace {

using cuda::launch;

constexpr unsigned kAll = 0xffffffffu;

static_assert(alignof(uint4) == 16 && alignof(float4) == 16 && alignof(int2) == 8 && alignof(float3) == 4);
static_assert(alignof(short4) == 8 && alignof(ushort2) == 4 && alignof(uchar4) == 4 && alignof(ulonglong2) == 16);
static_assert(sizeof(__half2) == 4 && alignof(__half2) == 4 && sizeof(__nv_bfloat162) == 4);

TEST(emulator_intrinsics, bits) {
  CHECK_EQ(__popc(0xf0f0u), 8);
  CHECK_EQ(__ffs(0), 0);
  CHECK_EQ(__ffs(8), 4);
  CHECK_EQ(__clz(1), 31);
  CHECK_EQ(__clz(0), 32);
  CHECK_EQ(__brev(1u), 0x80000000u);
  CHECK_EQ(__brev(0x12345678u), 0x1e6a2c48u);
  CHECK_EQ(__byte_perm(0x33221100u, 0x77665544u, 0x7250), 0x77225500u);
  CHECK_EQ(__umulhi(0x80000000u, 6u), 3u);
  CHECK_EQ(__mulhi(-2, 0x40000000), -1);
  CHECK_EQ(__funnelshift_l(0x80000000u, 1u, 1), 3u);
  CHECK_EQ(__funnelshift_r(0u, 1u, 1), 0x80000000u);
  CHECK_EQ(__float_as_uint(1.0f), 0x3f800000u);
  CHECK_EQ(__int_as_float(0x40000000), 2.0f);
}

TEST(emulator_intrinsics, conversions_to_integers_saturate) {
  CHECK_EQ(__float2int_rn(2.5f), 2);
  CHECK_EQ(__float2int_rn(-3.5f), -4);
  CHECK_EQ(__float2int_rz(-3.9f), -3);
  CHECK_EQ(__float2int_rd(-3.1f), -4);
  CHECK_EQ(__float2int_rn(1e20f), std::numeric_limits<int>::max());
  CHECK_EQ(__float2int_rn(-1e20f), std::numeric_limits<int>::min());
  CHECK_EQ(__float2int_rn(NAN), 0);
  CHECK_EQ(__float2uint_rz(-1.0f), 0u);
}

TEST(emulator_intrinsics, minimum_and_maximum) {
  CHECK_EQ(min(3, -4), -4);
  CHECK_EQ(max(3u, 4u), 4u);
  CHECK_EQ(min(int64_t{5}, int64_t{6}), 5);
  CHECK_EQ(max(NAN, 2.0f), 2.0f);
  CHECK_NEAR(rsqrtf(4.0f), 0.5, 1e-7);
  CHECK_NEAR(__expf(1.0f), std::exp(1.0), 1e-6);
  CHECK_NEAR(__fdividef(1.0f, 4.0f), 0.25, 0);
}

TEST(emulator_intrinsics, half_precision) {
  for (int bits = 0; bits < 0x10000; ++bits) {
    const __half half = __ushort_as_half(static_cast<unsigned short>(bits));
    const float value = __half2float(half);
    if (value != value) continue;
    if (__half_as_ushort(__float2half_rn(value)) != bits || value != halfToFloat(static_cast<uint16_t>(bits)))
      FAIL("fp16 " + std::to_string(bits));
  }
  CHECK_EQ(__half2float(__float2half(1.0f + 0x1p-11f)), 1.0f);  // ties go to even
  CHECK_EQ(__half2float(__float2half(1.0f + 0x3p-11f)), 1.0f + 0x1p-9f);
  CHECK(__hisinf(__float2half(65520.0f)) == 1);
  CHECK_EQ(__bfloat162float(__float2bfloat16(1.0f + 0x1p-8f)), 1.0f);
  CHECK_EQ(__bfloat16_as_ushort(__float2bfloat16_rn(-2.0f)), 0xc000u);
  const __half2 pair = __floats2half2_rn(1.5f, -2.0f);
  CHECK_EQ(__low2float(pair), 1.5f);
  CHECK_EQ(__half22float2(pair).y, -2.0f);
  uint32_t bits;
  std::memcpy(&bits, &pair, sizeof bits);
  CHECK_EQ(bits, 0xc0003e00u);
  const __half2 product = __hfma2(pair, __float2half2_rn(2.0f), __float2half2_rn(1.0f));
  CHECK_EQ(__high2float(product), -3.0f);
  CHECK_EQ(__half2float(__hadd(__float2half(2048.0f), __float2half(1.0f))), 2048.0f);
  CHECK_EQ(cuda::pack2<__half>(1.5f, -2.0f), 0xc0003e00u);
}

struct Indices {
  unsigned thread[3], block[3], size[3], grid[3];
};

__global__ void writeIndices(Indices* out) {
  const unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  const unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  out[block * blockDim.x * blockDim.y * blockDim.z + thread] = {{threadIdx.x, threadIdx.y, threadIdx.z},
                                                                {blockIdx.x, blockIdx.y, blockIdx.z},
                                                                {blockDim.x, blockDim.y, blockDim.z},
                                                                {gridDim.x, gridDim.y, gridDim.z}};
}

TEST(emulator_intrinsics, every_thread_knows_its_place) {
  underAllSchedules([] {
    const dim3 grid(3, 2, 2), block(8, 4, 3);
    const unsigned threads = 8 * 4 * 3, blocks = 3 * 2 * 2;
    DeviceArray<Indices> out(threads * blocks);
    launch(writeIndices, {"indices", grid, block, 0, nullptr, false}, out.data());
    const auto found = out.read();
    for (unsigned i = 0; i < threads * blocks; ++i) {
      const unsigned t = i % threads, b = i / threads;
      const Indices expected = {{t % 8, t / 8 % 4, t / 32}, {b % 3, b / 3 % 2, b / 6}, {8, 4, 3}, {3, 2, 2}};
      CHECK(std::memcmp(&found[i], &expected, sizeof expected) == 0);
    }
  });
}

// One number of each operation for each lane.
constexpr int kShuffles = 12;
__global__ void shuffleKernel(int* out) {
  const int lane = threadIdx.x, value = 100 + lane;
  int* row = out + lane;
  row[0 * 32] = __shfl_sync(kAll, value, 5);
  row[1 * 32] = __shfl_sync(kAll, value, lane + 3, 8);
  row[2 * 32] = __shfl_xor_sync(kAll, value, 9);
  row[3 * 32] = __shfl_up_sync(kAll, value, 2);
  row[4 * 32] = __shfl_down_sync(kAll, value, 3);
  row[5 * 32] = __shfl_up_sync(kAll, value, 1, 4);
  row[6 * 32] = __shfl_down_sync(kAll, value, 1, 4);
  row[7 * 32] = static_cast<int>(__shfl_xor_sync(kAll, (1LL << 40) * value, 1) >> 40);
  row[8 * 32] = static_cast<int>(__ballot_sync(kAll, lane % 3 == 0));
  row[9 * 32] = __any_sync(kAll, lane == 7) * 2 + __all_sync(kAll, lane < 31);
  row[10 * 32] = __reduce_max_sync(kAll, -lane) * 1000 + __reduce_add_sync(kAll, lane);
  // Halves of the warp on their own, at the same time.
  const unsigned half = lane < 16 ? 0x0000ffffu : 0xffff0000u;
  row[11 * 32] = static_cast<int>(__match_any_sync(half, lane % 4));
}

TEST(emulator_intrinsics, shuffles_and_votes) {
  underAllSchedules([] {
    DeviceArray<int> out(kShuffles * 32);
    launch(shuffleKernel, {"shuffles", 1, 32, 0, nullptr, false}, out.data());
    const auto found = out.read();
    for (int lane = 0; lane < 32; ++lane) {
      const Note note("lane", lane);
      const int up2 = lane >= 2 ? lane - 2 : lane, down3 = lane + 3 < 32 ? lane + 3 : lane;
      const int up1 = lane % 4 >= 1 ? lane - 1 : lane, down1 = lane % 4 < 3 ? lane + 1 : lane;
      const int expected[] = {105,
                              100 + (lane & 24) + (lane + 3) % 8,
                              100 + (lane ^ 9),
                              100 + up2,
                              100 + down3,
                              100 + up1,
                              100 + down1,
                              100 + (lane ^ 1),
                              0x49249249,
                              2,
                              496,
                              0x1111 << lane % 4 << (lane < 16 ? 0 : 16)};
      for (int i = 0; i < kShuffles; ++i) CHECK_EQ(found[i * 32 + lane], expected[i]);
    }
  });
}

__global__ void atomicsKernel(unsigned* counters, float* sum, unsigned long long* wide) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  atomicAdd(&counters[0], 1u);
  atomicMax(&counters[1], i);
  atomicMin(&counters[2], i + 7);
  atomicOr(&counters[3], 1u << i % 32);
  atomicInc(&counters[4], 9u);
  atomicAdd(sum, 0.5f);
  atomicAdd(wide, 1ull << 33);
  // A lock would be wrong inside a warp; a compare-and-swap loop is not.
  unsigned old = 0, assumed;
  do {
    assumed = old;
    old = atomicCAS(&counters[5], assumed, assumed + 2);
  } while (old != assumed);
}

TEST(emulator_intrinsics, atomics) {
  underAllSchedules([] {
    DeviceArray<unsigned> counters(std::vector<unsigned>{0, 0, 1000, 0, 0, 0});
    DeviceArray<float> sum(std::vector<float>{0.0f});
    DeviceArray<unsigned long long> wide(std::vector<unsigned long long>{0ull});
    launch(atomicsKernel, {"atomics", 3, 64, 0, nullptr, false}, counters.data(), sum.data(), wide.data());
    const auto found = counters.read();
    const unsigned expected[] = {192, 191, 7, kAll, 2, 384};
    for (int i = 0; i < 6; ++i) CHECK_EQ(found[i], expected[i]);
    CHECK_EQ(sum.read()[0], 96.0f);
    CHECK_EQ(wide.read()[0], 192ull << 33);
  });
}

__global__ void barrierKernel(int* out) {
  const int i = threadIdx.x;
  out[i] = __syncthreads_count(i % 3 == 0) * 100 + __syncthreads_or(i == 5) * 10 + __syncthreads_and(i < 40);
}

TEST(emulator_intrinsics, barriers_that_count) {
  underAllSchedules([] {
    DeviceArray<int> out(64);
    launch(barrierKernel, {"barriers", 1, 64, 0, nullptr, false}, out.data());
    for (const int found : out.read()) CHECK_EQ(found, 22 * 100 + 10);
  });
}

// Threads that have ended are not waited for at barriers.
__global__ void earlyEndKernel(int* out) {
  if (threadIdx.x >= 48) return;
  int& shared = cuda::sharedMemory<int>();
  if (threadIdx.x == 0) shared = 77;
  __syncthreads();
  out[threadIdx.x] = shared;
}

TEST(emulator_intrinsics, barriers_without_ended_threads) {
  underAllSchedules([] {
    DeviceArray<int> out(48);
    launch(earlyEndKernel, {"early end", 1, 96, sizeof(int), nullptr, false}, out.data());
    for (const int found : out.read()) CHECK_EQ(found, 77);
  });
}

__global__ void poisonKernel(uint32_t* out) {
  const uint32_t* words = &cuda::sharedMemory<uint32_t>();
  out[threadIdx.x] = words[threadIdx.x];
}

TEST(emulator_intrinsics, shared_and_device_memory_begin_as_nan) {
  DeviceArray<uint32_t> out(32);
  launch(poisonKernel, {"poison", 1, 32, 128, nullptr, false}, out.data());
  for (const uint32_t word : out.read()) CHECK_EQ(word, 0xffffffffu);
  uint32_t* fresh = nullptr;
  CHECK_EQ(cudaMalloc(&fresh, 400), cudaSuccess);
  uint32_t words[100];
  CHECK_EQ(cudaMemcpy(words, fresh, sizeof words, cudaMemcpyDeviceToHost), cudaSuccess);
  for (const uint32_t word : words) CHECK_EQ(word, 0xffffffffu);
  CHECK_EQ(cudaFree(fresh), cudaSuccess);
}

}  // namespace
}  // namespace shardspeed::test
