#pragma once

#include <vector>

#include "backend.h"
#include "comm/group.h"

namespace shardspeed {

// A step as rank 0 tells the others about it.
Group::Bytes encodeStep(const Step& step);

// A step with the memory that it points to.
struct ReceivedStep {
  Step step;
  std::vector<int32_t> tokenIds;
  std::vector<std::vector<int32_t>> pages;
};

// Throws ERR_COMM for what is no encoded step. Reuses the memory of `received`.
void decodeStep(const Group::Bytes& message, ReceivedStep& received);

}  // namespace shardspeed
