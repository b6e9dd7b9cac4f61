#include <cstring>

#include "base/half.h"
#include "engine.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

// mma.m16n8k16 and ldmatrix, for a whole warp at a time. Layouts: PTX ISA, "Matrix Fragments for mma.m16n8k16" and
// "ldmatrix".

namespace emulator {
namespace {

constexpr int kRows = 16, kCols = 8, kDepth = 16;

struct Tiles {
  alignas(32) uint16_t a[kRows][kDepth];
  alignas(32) uint16_t b[kDepth][kCols];
  alignas(32) float d[kRows][kCols];
};

void gather(const uint32_t (*in)[12], Tiles& tiles) {
  for (int lane = 0; lane < kLanes; ++lane) {
    const int g = lane / 4, t = lane % 4;
    const uint32_t* words = in[lane];
    memcpy(&tiles.a[g][2 * t], &words[0], 4);
    memcpy(&tiles.a[g + 8][2 * t], &words[1], 4);
    memcpy(&tiles.a[g][2 * t + 8], &words[2], 4);
    memcpy(&tiles.a[g + 8][2 * t + 8], &words[3], 4);
    for (int i = 0; i < 4; ++i)
      tiles.b[2 * t + (i & 1) + 8 * (i >> 1)][g] = static_cast<uint16_t>(words[4 + (i >> 1)] >> 16 * (i & 1));
    memcpy(&tiles.d[g][2 * t], &words[6], 8);
    memcpy(&tiles.d[g + 8][2 * t], &words[8], 8);
  }
}

void scatter(const Tiles& tiles, uint32_t (*out)[4]) {
  for (int lane = 0; lane < kLanes; ++lane) {
    const int g = lane / 4, t = lane % 4;
    memcpy(&out[lane][0], &tiles.d[g][2 * t], 8);
    memcpy(&out[lane][2], &tiles.d[g + 8][2 * t], 8);
  }
}

// Products of 16-bit numbers are exact in fp32, so whether product and sum are fused changes nothing. k ascends.
void accumulate(Tiles& tiles, const float (*a)[kDepth], const float (*b)[kCols]) {
  for (int i = 0; i < kRows; ++i)
    for (int k = 0; k < kDepth; ++k)
      for (int j = 0; j < kCols; ++j) tiles.d[i][j] += a[i][k] * b[k][j];
}

void multiplyPortable(Tiles& tiles, bool bfloat16) {
  alignas(32) float a[kRows][kDepth], b[kDepth][kCols];
  const auto widen = [&](const uint16_t* from, float* to, int count) {
    for (int i = 0; i < count; ++i)
      to[i] = bfloat16 ? shardspeed::bfloat16ToFloat(from[i]) : shardspeed::halfToFloat(from[i]);
  };
  widen(tiles.a[0], a[0], kRows * kDepth);
  widen(tiles.b[0], b[0], kDepth * kCols);
  accumulate(tiles, a, b);
}

#if defined(__x86_64__)
__attribute__((target("avx2,f16c"))) __m256 widen8(const uint16_t* from, bool bfloat16) {
  const __m128i bits = _mm_load_si128(reinterpret_cast<const __m128i*>(from));
  if (!bfloat16) return _mm256_cvtph_ps(bits);
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
}

__attribute__((target("avx2,f16c"))) void multiplyAvx2(Tiles& tiles, bool bfloat16) {
  alignas(32) float a[kRows][kDepth];
  for (int i = 0; i < kRows; ++i)
    for (int k = 0; k < kDepth; k += 8) _mm256_store_ps(&a[i][k], widen8(&tiles.a[i][k], bfloat16));
  __m256 b[kDepth];
  for (int k = 0; k < kDepth; ++k) b[k] = widen8(tiles.b[k], bfloat16);
  // Four rows at a time: sums of one row alone would wait for each other.
  for (int i = 0; i < kRows; i += 4) {
    __m256 d[4];
    for (int r = 0; r < 4; ++r) d[r] = _mm256_load_ps(tiles.d[i + r]);
    for (int k = 0; k < kDepth; ++k)
      for (int r = 0; r < 4; ++r) d[r] = _mm256_add_ps(d[r], _mm256_mul_ps(_mm256_broadcast_ss(&a[i + r][k]), b[k]));
    for (int r = 0; r < 4; ++r) _mm256_store_ps(tiles.d[i + r], d[r]);
  }
}
const bool kAvx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("f16c");
#endif

}  // namespace

void multiplyFragments(const uint32_t (*in)[12], uint32_t (*out)[4], bool bfloat16) {
  Tiles tiles;
  gather(in, tiles);
#if defined(__x86_64__)
  if (kAvx2)
    multiplyAvx2(tiles, bfloat16);
  else
#endif
    multiplyPortable(tiles, bfloat16);
  scatter(tiles, out);
}

void loadMatrices(Warp& warp, bool transposed, Site site) {
  const Block* block = warp.block;
  const auto first = reinterpret_cast<uintptr_t>(block->shared);
  uint16_t matrices[4][8][8];
  for (int lane = 0; lane < kLanes; ++lane) {
    uintptr_t row;
    memcpy(&row, warp.in[lane], sizeof row);
    if (row % 16 != 0)
      fault(cudaErrorMisalignedAddress, site, "ldmatrix: the row of lane %d is not aligned to 16 bytes", lane);
    if (row < first || row + 16 > first + block->grid->sharedBytes)
      fault(cudaErrorIllegalAddress, site,
            "ldmatrix: the row of lane %d is not in shared memory: offset %td of %zu bytes", lane,
            static_cast<ptrdiff_t>(row - first), block->grid->sharedBytes);
    memcpy(matrices[lane / 8][lane % 8], reinterpret_cast<const void*>(row), 16);
  }
  for (int lane = 0; lane < kLanes; ++lane) {
    const int g = lane / 4, t = lane % 4 * 2;
    for (int m = 0; m < 4; ++m) {
      const auto& matrix = matrices[m];
      const uint32_t low = transposed ? matrix[t][g] : matrix[g][t];
      const uint32_t high = transposed ? matrix[t + 1][g] : matrix[g][t + 1];
      warp.out[lane][m] = low | high << 16;
    }
  }
}

}  // namespace emulator
