#include "cuda/expert_rows.h"

#include "cuda/step_buffers.h"
#include "cuda/tensors.h"
#include "model/layout.h"

namespace shardspeed::cuda {

namespace {

int64_t slotsOf(int64_t capacity, const ExpertShape& shape) {
  return StepBuffers::paddedRows(capacity) * shape.perToken;
}
// A row has a logit for each expert, and one for the gate of a shared expert, also in layers without it.
int64_t logitsOf(const ExpertShape& shape) {
  return shape.experts + 1;
}
size_t wideBytes(int64_t capacity, const ExpertShape& shape) {
  return static_cast<size_t>(slotsOf(capacity, shape) * padTo(shape.hidden, kColumnStep)) * sizeof(float);
}
size_t innerBytes(int64_t capacity, const ExpertShape& shape) {
  return static_cast<size_t>(slotsOf(capacity, shape) * padTo(shape.neurons, kColumnStep)) * 2;
}
size_t planBytes(int64_t capacity, const ExpertShape& shape) {
  const int64_t slots = slotsOf(capacity, shape);
  return static_cast<size_t>(mostPieces(slots, shape.experts)) * sizeof(ExpertPiece) +
         static_cast<size_t>(5 * slots + StepBuffers::paddedRows(capacity) * logitsOf(shape)) * sizeof(float);
}

}  // namespace

size_t CudaExpertRows::bytesOf(int64_t capacity, const ExpertShape& shape) {
  return planBytes(capacity, shape) + wideBytes(capacity, shape) + innerBytes(capacity, shape);
}

CudaExpertRows::CudaExpertRows(int64_t capacity, const ExpertShape& shape)
    : shape_(shape),
      planned_(planBytes(capacity, shape), "activations"),
      wide_(wideBytes(capacity, shape), "activations"),
      inner_(innerBytes(capacity, shape), "activations") {
  const int64_t slots = slotsOf(capacity, shape);
  plan_.pieces = planned_.as<ExpertPiece>();
  plan_.chosen = reinterpret_cast<int32_t*>(plan_.pieces + mostPieces(slots, shape.experts));
  plan_.slotOf = plan_.chosen + slots;
  plan_.rowOf = plan_.slotOf + slots;
  plan_.weights = reinterpret_cast<float*>(plan_.rowOf + slots);
  plan_.weightOf = plan_.weights + slots;
  plan_.logits = plan_.weightOf + slots;
  plan_.logitStride = logitsOf(shape);
}

void readExperts(const ExpertStep& step, const ExpertInput& input, const CudaExpertRows& state) {
  const ExpertsCall& call = *step.call;
  const ExpertsFeedForward& spec = *call.spec;
  const ExpertPlan& plan = state.plan();
  const NormParams norm = call.norm ? normParams(*call.norm) : NormParams{};
  const int64_t stride = state.wideStride();
  normalizeForExperts(step.dtype, step.rows, input.cols, input.in, input.inStride, call.norm ? &norm : nullptr,
                      state.wide(), input.narrow, stride, step.stream);
  RouterLogits logits;
  logits.x = state.wide();
  logits.router = static_cast<const float*>(of(*call.router).data());
  logits.bias = dataOf(call.routerBias);
  logits.rows = step.rows;
  logits.cols = input.cols;
  logits.outputs = spec.count + (input.shared ? 1 : 0);
  computeRouterLogits(logits, plan, step.stream);
  chooseExperts(spec, dataOf(call.correction), step.positions, step.rows, plan, step.stream);
  planExperts(spec, step.rows, plan, step.stream);
  ExpertProduct product;
  product.dtype = step.dtype;
  product.rows = step.rows;
  product.outFeatures = expertRows(call.neurons, spec.gated);
  product.inFeatures = input.cols;
  product.weight = of(*call.up).data();
  product.bias = dataOf(call.upBias);
  product.in = input.narrow;
  product.inStride = stride;
  product.weighs = spec.router.weighsInput;
  product.out = state.inner();
  product.outStride = state.innerStride();
  product.outCols = call.neurons;
  projectUpward(spec, product, plan, step.stream);
  if (input.shared)
    gateSharedExpert(step.dtype, spec.count, step.rows, input.sharedCols, plan, input.shared, input.sharedStride,
                     step.stream);
}

void addExperts(const ExpertStep& step, bool residual, int64_t cols, float* out, int64_t outStride,
                const CudaExpertRows& state) {
  const ExpertsCall& call = *step.call;
  ExpertProduct product;
  product.dtype = step.dtype;
  product.rows = step.rows;
  product.outFeatures = expertRows(cols, false);
  product.inFeatures = call.neurons;
  product.weight = of(*call.down).data();
  product.bias = dataOf(call.downBias);
  product.in = state.inner();
  product.inStride = state.innerStride();
  product.readsSlots = true;
  product.out = state.wide();
  product.wide = true;
  product.outStride = state.wideStride();
  product.outCols = cols;
  projectDownward(*call.spec, product, state.plan(), step.stream);
  ExpertSum sum;
  sum.rows = step.rows;
  sum.cols = cols;
  sum.values = state.wide();
  sum.stride = state.wideStride();
  sum.weighs = !call.spec->router.weighsInput;
  sum.residual = residual;
  sum.out = out;
  sum.outStride = outStride;
  sumExperts(call.spec->perToken, sum, state.plan(), step.stream);
}

}  // namespace shardspeed::cuda
