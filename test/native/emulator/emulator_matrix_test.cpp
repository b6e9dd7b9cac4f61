#include <cmath>

#include "cuda/device.h"
#include "cuda/launch.cuh"
#include "cuda/ptx.cuh"

// mma and ldmatrix against fp64 and against the layouts that the PTX ISA draws.

namespace shardspeed::test {
namespace {

using cuda::launch;

// d (16, 8) += a (16, 16) b (16, 8), b given transposed, fragments gathered by hand.
template <typename T>
__global__ void mmaKernel(const uint16_t* a, const uint16_t* bTransposed, float* d) {
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  const auto pair = [](const uint16_t* from) { return from[0] | static_cast<uint32_t>(from[1]) << 16; };
  const uint32_t aWords[4] = {pair(a + g * 16 + 2 * t), pair(a + (g + 8) * 16 + 2 * t), pair(a + g * 16 + 2 * t + 8),
                              pair(a + (g + 8) * 16 + 2 * t + 8)};
  const uint32_t bWords[2] = {pair(bTransposed + g * 16 + 2 * t), pair(bTransposed + g * 16 + 2 * t + 8)};
  float words[4] = {d[g * 8 + 2 * t], d[g * 8 + 2 * t + 1], d[(g + 8) * 8 + 2 * t], d[(g + 8) * 8 + 2 * t + 1]};
  cuda::mma16816<T>(words, aWords, bWords);
  d[g * 8 + 2 * t] = words[0];
  d[g * 8 + 2 * t + 1] = words[1];
  d[(g + 8) * 8 + 2 * t] = words[2];
  d[(g + 8) * 8 + 2 * t + 1] = words[3];
}

template <typename T>
void checkMma(DType dtype) {
  uint32_t state = 12345;
  const auto next = [&] {
    state = state * 1664525 + 1013904223;
    return static_cast<float>(static_cast<int>(state >> 16) % 2001 - 1000) / 700;
  };
  std::vector<uint16_t> a(256), b(128);
  std::vector<float> d(128);
  for (auto& value : a) value = toElement(dtype, next());
  for (auto& value : b) value = toElement(dtype, next());
  for (auto& value : d) value = next();
  DeviceArray<uint16_t> deviceA(a), deviceB(b);
  DeviceArray<float> deviceD(d);
  launch(mmaKernel<T>, {"mma", 1, 32, 0, nullptr, false}, deviceA.data(), deviceB.data(), deviceD.data());
  const auto found = deviceD.read();
  for (int i = 0; i < 16; ++i) {
    for (int j = 0; j < 8; ++j) {
      double expected = d[i * 8 + j];
      for (int k = 0; k < 16; ++k)
        expected += static_cast<double>(fromElement(dtype, a[i * 16 + k])) * fromElement(dtype, b[j * 16 + k]);
      CHECK_NEAR(found[i * 8 + j], expected, 1e-5);
    }
  }
}

TEST(emulator_matrix, mma_of_fp16) {
  underAllSchedules([] { checkMma<__half>(DType::kF16); });
}
TEST(emulator_matrix, mma_of_bf16) {
  underAllSchedules([] { checkMma<__nv_bfloat16>(DType::kBF16); });
}

TEST(emulator_matrix, mma_keeps_infinities_and_nan) {
  std::vector<uint16_t> a(256, 0), b(128, floatToHalf(1.0f));
  a[0] = floatToHalf(INFINITY);
  a[16 * 3 + 5] = 0x7e00;
  DeviceArray<uint16_t> deviceA(a), deviceB(b);
  DeviceArray<float> d(std::vector<float>(128, 0.0f));
  launch(mmaKernel<__half>, {"mma", 1, 32, 0, nullptr, false}, deviceA.data(), deviceB.data(), d.data());
  const auto found = d.read();
  CHECK(std::isinf(found[0]) && std::isnan(found[3 * 8 + 7]) && found[8] == 0.0f);
}

// out: (2, 32, 4) what each lane gets of four matrices, plain and transposed.
__global__ void ldmatrixKernel(uint32_t* out) {
  auto* elements = &cuda::sharedMemory<uint16_t>();
  const int lane = threadIdx.x;
  for (int i = lane; i < 4 * 64; i += 32) elements[i] = static_cast<uint16_t>(i);
  __syncthreads();
  uint32_t words[4];
  cuda::ldmatrixX4(words, elements + lane * 8);
  for (int m = 0; m < 4; ++m) out[lane * 4 + m] = words[m];
  cuda::ldmatrixX4Transposed(words, elements + lane * 8);
  for (int m = 0; m < 4; ++m) out[128 + lane * 4 + m] = words[m];
}

TEST(emulator_matrix, ldmatrix_plain_and_transposed) {
  underAllSchedules([] {
    DeviceArray<uint32_t> out(256);
    launch(ldmatrixKernel, {"ldmatrix", 1, 32, 512, nullptr, false}, out.data());
    const auto found = out.read();
    const auto element = [](int m, int row, int col) { return static_cast<uint32_t>(m * 64 + row * 8 + col); };
    for (int lane = 0; lane < 32; ++lane) {
      const int row = lane / 4, col = 2 * (lane % 4);
      for (int m = 0; m < 4; ++m) {
        CHECK_EQ(found[lane * 4 + m], element(m, row, col) | element(m, row, col + 1) << 16);
        CHECK_EQ(found[128 + lane * 4 + m], element(m, col, row) | element(m, col + 1, row) << 16);
      }
    }
  });
}

}  // namespace
}  // namespace shardspeed::test
