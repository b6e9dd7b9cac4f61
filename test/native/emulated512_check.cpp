// Holds the constants of the emulated set against those of the real one. Nothing here runs, so any x86 compiles it.
#if defined(__x86_64__)
#include <immintrin.h>

#include "base/half.h"

namespace shardspeed::test {
namespace real {
#include "cpu/vec_avx512.inc"
}  // namespace real
namespace emulated {
#include "vec_emulated512.inc"
}  // namespace emulated

static_assert(real::kTile == emulated::kTile);
static_assert(real::kTallTile == emulated::kTallTile);
static_assert(real::kPackedTile == emulated::kPackedTile);
static_assert(real::kPackedTallTile == emulated::kPackedTallTile);
static_assert(real::kDirectRows == emulated::kDirectRows);
static_assert(real::kValueSums == emulated::kValueSums);
static_assert(real::kFmaChains == emulated::kFmaChains);

}  // namespace shardspeed::test
#endif
