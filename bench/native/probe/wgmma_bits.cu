#include <cuda_fp16.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "probe.h"
#include "wgmma.cuh"

// One product, (64, K) times (192, K) transposed, by four kernels: wgmma with 8, 64 and 192 columns an instruction, and
// mma.sync with 8. All add 16 columns of k at a time, in ascending order. If the first three have the same bits, one
// kernel can serve any number of tokens and choose its instruction by it.

namespace probe {

namespace {

constexpr int kRows = 64, kColumns = 192, kDepth = 4096;
constexpr int kStep = 64;  // columns of k in shared memory

// Element (row, k) of a tile of `rows` rows.
__device__ __forceinline__ int placeOf(int row, int k, int rows) {
  return (k / 8 * (rows / 8) + row / 8) * 64 + row % 8 * 8 + k % 8;
}

template <int N>
__global__ void __launch_bounds__(128) multiplyByGroup(const __half* a, const __half* b, float* out, bool exchanged) {
  __shared__ __align__(128) __half left[kRows * kStep];
  __shared__ __align__(128) __half right[N * kStep];
  const int thread = static_cast<int>(threadIdx.x), first = static_cast<int>(blockIdx.x) * N;
  float sums[N / 2] = {};
  for (int k = 0; k < kDepth; k += kStep) {
    for (int i = thread; i < kRows * kStep; i += 128)
      left[placeOf(i / kStep, i % kStep, kRows)] = a[i / kStep * kDepth + k + i % kStep];
    for (int i = thread; i < N * kStep; i += 128)
      right[placeOf(i / kStep, i % kStep, N)] = b[(first + i / kStep) * kDepth + k + i % kStep];
    fenceProxy();
    __syncthreads();
    fenceBefore();
    for (int part = 0; part < kStep / 16; ++part) {
      const uint32_t leftStep = kRows / 8 * 128, rightStep = N / 8 * 128, rows = 128;
      const __half *leftStart = left + part * 16 * kRows, *rightStart = right + part * 16 * N;
      wgmma<N>(sums, exchanged ? descriptor(leftStart, rows, leftStep) : descriptor(leftStart, leftStep, rows),
               exchanged ? descriptor(rightStart, rows, rightStep) : descriptor(rightStart, rightStep, rows));
    }
    commitAndWait();
    __syncthreads();
  }
  const int lane = thread % 32, row = thread / 32 * 16 + lane / 4;
  for (int i = 0; i < N / 2; ++i)
    out[(row + i / 2 % 2 * 8) * kColumns + first + i / 4 * 8 + lane % 4 * 2 + i % 2] = sums[i];
}

// A warp computes 16 rows and 8 columns.
__global__ void __launch_bounds__(32) multiplyByWarp(const __half* a, const __half* b, float* out) {
  const int lane = static_cast<int>(threadIdx.x), firstRow = static_cast<int>(blockIdx.y) * 16,
            firstColumn = static_cast<int>(blockIdx.x) * 8;
  const auto two = [](const __half* from) { return *reinterpret_cast<const uint32_t*>(from); };
  const __half* low = a + (firstRow + lane / 4) * kDepth + lane % 4 * 2;
  const __half* tokens = b + (firstColumn + lane / 4) * kDepth + lane % 4 * 2;
  float d[4] = {};
  for (int k = 0; k < kDepth; k += 16) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
        "%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(two(low + k)), "r"(two(low + 8 * kDepth + k)), "r"(two(low + k + 8)), "r"(two(low + 8 * kDepth + k + 8)),
          "r"(two(tokens + k)), "r"(two(tokens + k + 8)));
  }
  for (int i = 0; i < 4; ++i)
    out[(firstRow + lane / 4 + i / 2 * 8) * kColumns + firstColumn + lane % 4 * 2 + i % 2] = d[i];
}

std::vector<__half> randomHalves(int count, uint32_t state) {
  std::vector<__half> values;
  for (int i = 0; i < count; ++i) {
    state = state * 1664525u + 1013904223u;
    values.push_back(__float2half(static_cast<float>(state >> 8) / 8388608.0f - 1.0f));
  }
  return values;
}

template <typename T>
T* uploaded(const std::vector<T>& values) {
  T* memory = nullptr;
  check(cudaMalloc(&memory, values.size() * sizeof(T)), "cudaMalloc");
  check(cudaMemcpy(memory, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice), "cudaMemcpy");
  return memory;
}

struct Operands {
  std::vector<__half> left = randomHalves(kRows * kDepth, 1), right = randomHalves(kColumns * kDepth, 2);
  __half *a = uploaded(left), *b = uploaded(right);
  float* out = uploaded(std::vector<float>(kRows * kColumns));
};

template <typename Launch>
std::vector<float> computed(const Operands& operands, Launch launch) {
  std::vector<float> result(kRows * kColumns);
  check(cudaMemset(operands.out, 0xff, result.size() * sizeof(float)), "cudaMemset");
  launch();
  check(cudaGetLastError(), "launching a product");
  check(cudaMemcpy(result.data(), operands.out, result.size() * sizeof(float), cudaMemcpyDeviceToHost), "a product");
  return result;
}

template <int N>
std::vector<float> byGroup(const Operands& operands, bool exchanged) {
  return computed(operands,
                  [&] { multiplyByGroup<N><<<kColumns / N, 128>>>(operands.a, operands.b, operands.out, exchanged); });
}

// The largest error against fp64, of what sums of this size may have.
double errorOf(const Operands& operands, const std::vector<float>& found) {
  double worst = 0;
  for (int row = 0; row < kRows; ++row)
    for (int column = 0; column < kColumns; column += 7) {
      double sum = 0;
      for (int k = 0; k < kDepth; ++k)
        sum += static_cast<double>(__half2float(operands.left[static_cast<size_t>(row * kDepth + k)])) *
               static_cast<double>(__half2float(operands.right[static_cast<size_t>(column * kDepth + k)]));
      const double off = std::abs(sum - static_cast<double>(found[static_cast<size_t>(row * kColumns + column)]));
      worst = std::isnan(off) ? 1e9 : std::fmax(worst, off);
    }
  return worst;
}

void say(const char* what, const std::vector<float>& found, const std::vector<float>& expected) {
  int differing = 0;
  for (size_t i = 0; i < found.size(); ++i) differing += std::memcmp(&found[i], &expected[i], sizeof(float)) != 0;
  if (differing == 0)
    std::printf("%s: same bits\n", what);
  else
    std::printf("%s: %d of %zu sums have other bits\n", what, differing, found.size());
}

}  // namespace

bool compareBits() {
  constexpr double kTolerance = 0.05;  // sums of 4096 terms of 1/3 are some 20 large
  const Operands operands;
  bool exchanged = false;
  std::vector<float> few = byGroup<8>(operands, exchanged);
  if (errorOf(operands, few) > kTolerance) {
    exchanged = true;
    few = byGroup<8>(operands, exchanged);
  }
  const double error = errorOf(operands, few);
  if (error > kTolerance) {
    std::printf("wgmma n8: off by %g, so the layout of its operands is another; its bits say nothing\n", error);
    return false;
  }
  std::printf("wgmma n8: within %g of fp64%s\n", error, exchanged ? ", with leading and stride offsets exchanged" : "");
  say("wgmma n64 against n8", byGroup<64>(operands, exchanged), few);
  say("wgmma n192 against n8", byGroup<192>(operands, exchanged), few);
  say("mma.sync against wgmma n8",
      computed(operands,
               [&] { multiplyByWarp<<<dim3(kColumns / 8, kRows / 16), 32>>>(operands.a, operands.b, operands.out); }),
      few);
  return true;
}

}  // namespace probe
