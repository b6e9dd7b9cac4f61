#include "cpu/kernels.h"

#include <immintrin.h>

namespace shardspeed {
namespace avx2 {
#include "cpu/vec_avx2.inc"
// The order matters: the kernels are written in terms of Vec.
#include "cpu/kernels_impl.inc"
}  // namespace avx2

const KernelTable kAvx2Kernels = {
    "avx2",        48,           avx2::packRows,    avx2::panelDot, avx2::finish,  avx2::addWeighted,
    avx2::normRow, avx2::attend, avx2::mergeRanges, avx2::sumRows,  avx2::readSum, avx2::fmaRounds};

}  // namespace shardspeed
