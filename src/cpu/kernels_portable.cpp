#include "base/half.h"
#include "cpu/kernels.h"

namespace shardspeed {
namespace portable {
#include "cpu/vec_portable.inc"
// The order matters: the kernels are written in terms of Vec.
#include "cpu/kernels_impl.inc"
}  // namespace portable

const KernelTable kPortableKernels = {"portable",
                                      48,
                                      portable::packRows,
                                      portable::panelDot,
                                      portable::finish,
                                      portable::addWeighted,
                                      portable::normRow,
                                      portable::attend,
                                      portable::mergeRanges,
                                      portable::sumRows,
                                      portable::readSum,
                                      portable::fmaRounds};

}  // namespace shardspeed
