#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "check.h"
#include "cuda/attention_args.cuh"
#include "cuda/launch.cuh"
#include "device.h"
#include "random.h"

// What attention computes in ways of its own: quotients without a division, and chunks of positions.

namespace shardspeed::test {

namespace {

__global__ void divideByTotals(const float* values, const float* totals, float* out) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  out[i] = cuda::Share(totals[i]).of(values[i]);
}

float floatOf(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

__global__ void findFirstVisible(cuda::AttentionArgs<__half> args, int* out) {
  const int position = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  out[position] = args.firstVisible(position);
}

}  // namespace

// Values of any kind: ones of ordinary sizes, those near the ends of the range, subnormal ones, infinities and NaN.
TEST(cuda_attention_arithmetic, sharesAreRoundedAsQuotients) {
  constexpr size_t kCount = 1 << 16;
  Random random(3);
  std::vector<float> values, totals;
  for (size_t i = 0; i < kCount; ++i) {
    const auto bits = static_cast<uint32_t>(random.bits());
    values.push_back(i % 2 == 0 ? floatOf(bits) : floatOf((bits & 0x807fffff) | 0x3f800000));
    const uint32_t exponent = 127 + static_cast<uint32_t>(random.below(22));
    totals.push_back(floatOf(exponent << 23 | (static_cast<uint32_t>(random.bits()) & 0x7fffff)));
  }
  const float largest = std::numeric_limits<float>::max(), infinity = std::numeric_limits<float>::infinity();
  const float special[] = {0.0f, -0.0f, infinity, -infinity, largest, -largest, NAN, 1.0f, 0x1p-126f, 0x1.8p-149f};
  std::copy(std::begin(special), std::end(special), values.begin());
  const DeviceArray<float> valueArray(values), totalArray(totals), out(kCount);
  cuda::launch(divideByTotals, {"divide", kCount / 256, 256, 0, nullptr, false}, valueArray.data(), totalArray.data(),
               out.data());
  const std::vector<float> found = out.read();
  int64_t different = 0;
  for (size_t i = 0; i < kCount; ++i) {
    const float wanted = values[i] / totals[i];
    if (std::isnan(wanted) ? !std::isnan(found[i]) : std::memcmp(&wanted, &found[i], sizeof wanted) != 0) ++different;
  }
  CHECK_EQ(different, 0);
}

TEST(cuda_attention_arithmetic, chunksBeginAtMultiplesOfTheirSize) {
  constexpr int kCount = 1 << 13;
  for (const int chunk : {1, 2, 3, 7, 64, 1000, 4095, 8192, std::numeric_limits<int>::max()}) {
    const Note note("chunk", chunk);
    cuda::AttentionParams params;
    params.shape = {1, 1, 32};
    params.window = -chunk;
    const DeviceArray<int> out(kCount);
    cuda::launch(findFirstVisible, {"first visible", kCount / 256, 256, 0, nullptr, false},
                 cuda::attentionArgs<__half>(params, {}), out.data());
    const std::vector<int> found = out.read();
    int64_t wrong = 0;
    for (int position = 0; position < kCount; ++position)
      wrong += found[static_cast<size_t>(position)] != position - position % chunk;
    CHECK_EQ(wrong, 0);
  }
}

}  // namespace shardspeed::test
