#pragma once

#include <cstdint>

#include "backend.h"
#include "cuda/collectives.h"
#include "cuda/memory.h"
#include "cuda/step_buffers.h"
#include "cuda/token_chooser.h"

namespace shardspeed::cuda {

// Puts the tokens that were chosen behind one step into the description of the next one, on all ranks. Only enqueues
// work, which a graph may hold.
class ChosenTokens {
 public:
  // Must be called ahead of place() where there are several ranks.
  void prepareGroup(const GroupShapes& shapes);
  // Ahead of the kernels of the step that was uploaded last. chooser: null but on the rank that chose them;
  // collectives: null = there is one rank.
  void place(const StepBuffers& step, int64_t rows, const TokenChooser* chooser, Collectives* collectives, DType dtype,
             const Stream& stream) const;

  static size_t bytesOf(const GroupShapes& shapes);

 private:
  int64_t stride_ = 0;   // of a row that ranks sum
  DeviceMemory digits_;  // of the tokens, as rows of sums
};

}  // namespace shardspeed::cuda
