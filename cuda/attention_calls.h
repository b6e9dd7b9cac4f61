#pragma once

#include "backend.h"
#include "cuda/attention.h"
#include "cuda/memory.h"
#include "cuda/step_buffers.h"

namespace shardspeed::cuda {

// Computes the attention of layers: chooses kernels for what a call says.
class AttentionCalls {
 public:
  AttentionCalls(DType dtype, const StepBuffers& buffers, const Stream& stream)
      : dtype_(dtype), buffers_(buffers), stream_(stream) {}

  void prepareRelative(const RelativeTable& table);
  // slots: of the workspace of attendDecode.
  void prepareShape(const AttentionShape& shape, int64_t slots);
  // Backend::attend
  void attend(const Step& step, const AttentionCall& call, Activations& qkv, KvCache& cache, Activations& out);

 private:
  AttentionParams paramsOf(const AttentionCall& call, Activations& qkv, KvCache& cache, Activations& out) const;
  RelativeParams relativeOf(const AttentionCall& call) const;
  // Norms, limits and temperature of a call, where it has any. What is done here is taken out of params.
  void prepare(const AttentionCall& call, int64_t rows, const StepView& view, AttentionParams& params) const;

  // Attention of generated tokens.
  void decode(const AttentionParams& params, const StepView& view) const;

  DType dtype_;
  const StepBuffers& buffers_;
  const Stream& stream_;
  DeviceMemory workspace_;      // of attendDecode
  DeviceMemory relativeRowOf_;  // RelativeTable::rowOf
};

}  // namespace shardspeed::cuda
