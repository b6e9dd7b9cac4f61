#pragma once

#include <vector>

#include "backend.h"
#include "comm/group.h"

namespace shardspeed {

// A step as bytes, for rank 0's message to the others.
Group::Bytes encodeStep(const Step& step);

// A decoded step, with the memory that it points to.
struct ReceivedStep {
  Step step;
  std::vector<int32_t> tokenIds;
  std::vector<int32_t> tokenTypes;
  std::vector<std::vector<int32_t>> pages;
};

// Throws ERR_COMM if the bytes are no encoded step. Reuses the memory of `received`.
void decodeStep(const Group::Bytes& message, ReceivedStep& received);

}  // namespace shardspeed
