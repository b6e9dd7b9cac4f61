#include "base/half.h"
#include "kernel_sets.h"

namespace shardspeed {
namespace emulated512 {
#include "vec_emulated512.inc"
// The order matters: the kernels are written in terms of Vec.
#include "cpu/kernels_impl.inc"
}  // namespace emulated512

namespace test {

const KernelTable kEmulated512Kernels = {"emulated avx512",        1 << 30,
                                         emulated512::packRows,    emulated512::panelDot,
                                         emulated512::finish,      emulated512::addWeighted,
                                         emulated512::normRow,     emulated512::attend,
                                         emulated512::mergeRanges, emulated512::sumRows,
                                         emulated512::readSum,     emulated512::fmaRounds};

}  // namespace test
}  // namespace shardspeed
