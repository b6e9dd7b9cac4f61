#pragma once

#include <memory>
#include <vector>

#include "model/row_reader.h"

namespace shardspeed {

// The tensor of one role, rows by cols, of which some rows and some columns are held. Its views are one that is all of
// it, or tiles that cover it. Throws ERR_CHECKPOINT where they do not fit in or leave something open.
std::unique_ptr<RowReader> makeRoleReader(const std::vector<const WeightView*>& views,
                                          const std::vector<std::shared_ptr<const WeightReader>>& files, int64_t rows,
                                          int64_t cols, Range heldRows, Range heldCols,
                                          OverflowCounts* overflows = nullptr);

}  // namespace shardspeed
