#include "cpu/kernels.h"

#include <immintrin.h>

namespace shardspeed {
namespace avx512 {
#include "cpu/vec_avx512.inc"
// The order matters: the kernels are written in terms of Vec.
#include "cpu/kernels_impl.inc"
}  // namespace avx512

const KernelTable kAvx512Kernels = {
    "avx512",        1 << 30,        avx512::packRows,    avx512::panelDot, avx512::finish,  avx512::addWeighted,
    avx512::normRow, avx512::attend, avx512::mergeRanges, avx512::sumRows,  avx512::readSum, avx512::fmaRounds};

}  // namespace shardspeed
