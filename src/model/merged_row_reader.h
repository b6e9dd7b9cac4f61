#pragma once

#include <memory>
#include <vector>

#include "model/row_reader.h"

namespace shardspeed {

// The tensor of one role as makeRoleReader() reads it, and what an adapter adds to it. All sums are fp32, each in the
// order of the ranks whatever part is held, and the result is rounded once. The factors are read again for each call of
// read(), so that nothing of an adapter stays in memory. Throws ERR_CHECKPOINT where they do not fit the tensor.
std::unique_ptr<RowReader> makeMergedRowReader(const std::vector<const WeightView*>& views,
                                               const LowRankAddition& addition,
                                               const std::vector<std::shared_ptr<const WeightReader>>& files,
                                               int64_t rows, int64_t cols, Range heldRows, Range heldCols,
                                               OverflowCounts* overflows = nullptr);

}  // namespace shardspeed
