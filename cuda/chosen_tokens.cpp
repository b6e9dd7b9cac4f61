#include "cuda/chosen_tokens.h"

#include "cuda/advance.h"

namespace shardspeed::cuda {

namespace {

int64_t strideOf(const GroupShapes& shapes) {
  return padTo(shapes.hiddenSize, kColumnStep);
}

// The number of rows that hold the digits of so many tokens.
int64_t sumRows(int64_t tokens, int64_t stride) {
  return (tokens * kTokenDigits + stride - 1) / stride;
}

}  // namespace

// A step whose tokens are chosen behind another one has no more rows than were chosen for.
size_t ChosenTokens::bytesOf(const GroupShapes& shapes) {
  const int64_t stride = strideOf(shapes);
  return static_cast<size_t>(sumRows(StepBuffers::paddedRows(shapes.logitRows), stride) * stride) * sizeof(float);
}

void ChosenTokens::prepareGroup(const GroupShapes& shapes) {
  stride_ = strideOf(shapes);
  digits_ = DeviceMemory(bytesOf(shapes), "tokens of all ranks");
}

void ChosenTokens::place(const StepBuffers& step, int64_t rows, const TokenChooser* chooser, Collectives* collectives,
                         DType dtype, const Stream& stream) const {
  if (chooser) placeTokens(chooser->results(), rows, step.tokenIds(), stream.get());
  if (!collectives) return;
  RankSum sum;
  sum.dtype = dtype;
  sum.rows = sumRows(rows, stride_);
  sum.cols = sum.stride = stride_;
  sum.in = sum.x = digits_.as<float>();
  sum.stream = stream.get();
  spellTokens(chooser ? step.tokenIds() : nullptr, rows, digits_.as<float>(), sum.rows * stride_, stream.get());
  collectives->sum(sum);
  if (!chooser) readTokens(digits_.as<float>(), rows, step.tokenIds(), stream.get());
}

}  // namespace shardspeed::cuda
