#include "cpu/experts.h"

#include <algorithm>
#include <cmath>

#include "cpu/router.h"
#include "model/layout.h"

namespace shardspeed {

namespace {

constexpr int64_t kRouterRows = 64;  // that one thread computes logits of at a time
constexpr int64_t kChainFloats = 2 * kLanes;

const CpuMatrix& cpu(const Matrix& matrix) {
  return static_cast<const CpuMatrix&>(matrix);
}

int64_t slotsOf(int64_t capacity, const ExpertShape& shape) {
  return capacity * shape.perToken;
}

}  // namespace

CpuExpertRows::CpuExpertRows(int64_t capacity, const ExpertShape& wanted)
    : shape(wanted),
      readStride(roundUp(wanted.hidden, kLanes)),
      innerStride(roundUp(wanted.neurons, kLanes)),
      starts(static_cast<size_t>(wanted.experts) + 1),
      memory_(bytesOf(capacity, wanted), "activations"),
      inner_(memory_.as<float>() + slotsOf(capacity, wanted) * readStride) {}

size_t CpuExpertRows::bytesOf(int64_t capacity, const ExpertShape& shape) {
  const int64_t floats = roundUp(shape.hidden, kLanes) + roundUp(shape.neurons, kLanes);
  return static_cast<size_t>(slotsOf(capacity, shape) * floats) * sizeof(float);
}

void CpuExpertRows::sort(int64_t rows) {
  const auto slots = static_cast<size_t>(rows * shape.perToken);
  std::fill(starts.begin(), starts.end(), 0);
  for (size_t i = 0; i < slots; ++i) ++starts[static_cast<size_t>(chosen[i]) + 1];
  active.clear();
  for (size_t expert = 0; expert + 1 < starts.size(); ++expert) {
    if (starts[expert + 1] > 0) active.push_back(static_cast<int32_t>(expert));
    starts[expert + 1] += starts[expert];
  }
  rowOf.resize(slots);
  weightOf.resize(slots);
  next_.assign(starts.begin(), starts.end() - 1);
  for (size_t i = 0; i < slots; ++i) {
    const auto slot = static_cast<size_t>(next_[static_cast<size_t>(chosen[i])]++);
    rowOf[slot] = static_cast<int32_t>(static_cast<int64_t>(i) / shape.perToken);
    weightOf[slot] = weights[i];
  }
}

float* CpuExperts::scratch(int worker, int64_t floats) {
  std::vector<float>& own = scratch_[static_cast<size_t>(worker)];
  if (static_cast<int64_t>(own.size()) < floats) own.resize(static_cast<size_t>(floats));
  return own.data();
}

void CpuExperts::read(const ExpertsCall& call, int64_t rows, const float* x, int64_t stride, CpuExpertRows& state,
                      CpuActivations* shared) {
  route(call, rows, x, stride, state);
  gather(call, x, stride, state);
  projectUp(call, state);
  if (!shared) return;
  const int64_t logits = cpu(*call.router).panels() * kLanes;
  pool_.forEach(rows, [&](int64_t row, int) {
    const float gate = state.logits[static_cast<size_t>(row * logits + state.shape.experts)];
    const float weight = 1 / (1 + std::exp(-gate));
    float* values = shared->row(row);
    for (int64_t k = 0; k < shared->stride(); ++k) values[k] *= weight;
  });
}

void CpuExperts::route(const ExpertsCall& call, int64_t rows, const float* x, int64_t stride, CpuExpertRows& state) {
  const CpuMatrix& router = cpu(*call.router);
  const float* bias = dataOf(call.routerBias);
  const int64_t panels = router.panels(), width = panels * kLanes, perToken = state.shape.perToken;
  const int64_t tiles = (rows + kRouterRows - 1) / kRouterRows;
  state.logits.resize(static_cast<size_t>(rows * width));
  pool_.forEach(panels * tiles, [&](int64_t item, int worker) {
    const int64_t panel = item % panels, first = item / panels * kRouterRows;
    const int64_t count = std::min(kRouterRows, rows - first);
    Epilogue epilogue;
    float* chains = scratch(worker, kRouterRows * kChainFloats);
    kernels_.panelDot({router.panel(panel), router.dtype(), router.cols(), x + first * stride, stride, count, chains});
    epilogue.chains = chains;
    epilogue.bias = bias ? bias + panel * kLanes : nullptr;
    epilogue.rows = count;
    epilogue.out = state.logits.data() + first * width + panel * kLanes;
    epilogue.outStride = width;
    kernels_.finish(epilogue);
  });
  state.chosen.resize(static_cast<size_t>(rows * perToken));
  state.weights.resize(static_cast<size_t>(rows * perToken));
  pool_.forEach(tiles, [&](int64_t tile, int) {
    Router choice(*call.spec, dataOf(call.correction));
    for (int64_t row = tile * kRouterRows; row < std::min(rows, (tile + 1) * kRouterRows); ++row) {
      // The gate of the shared expert, which stands behind the others, stays as it is.
      choice.choose(state.logits.data() + row * width, state.chosen.data() + row * perToken,
                    state.weights.data() + row * perToken);
    }
  });
  state.sort(rows);
}

void CpuExperts::gather(const ExpertsCall& call, const float* x, int64_t stride, CpuExpertRows& state) {
  const bool weighs = call.spec->router.weighsInput;
  pool_.forEach(static_cast<int64_t>(state.rowOf.size()), [&](int64_t slot, int) {
    const auto at = static_cast<size_t>(slot);
    const float* from = x + state.rowOf[at] * stride;
    float* to = state.read(slot);
    const float weight = state.weightOf[at];
    for (int64_t k = 0; k < state.readStride; ++k) to[k] = weighs ? from[k] * weight : from[k];
  });
  if (weighs) std::fill(state.weightOf.begin(), state.weightOf.end(), 1.0f);
}

void CpuExperts::projectUp(const ExpertsCall& call, CpuExpertRows& state) {
  const int64_t panels = expertRows(state.shape.neurons, call.spec->gated) / kLanes;
  const int64_t groups = call.spec->gated ? panels / 2 : panels;
  pool_.forEach(static_cast<int64_t>(state.active.size()) * groups, [&](int64_t item, int worker) {
    const int64_t expert = state.active[static_cast<size_t>(item / groups)];
    const int64_t rows = state.starts[static_cast<size_t>(expert) + 1] - state.starts[static_cast<size_t>(expert)];
    projectGroup(call, expert, item % groups, state, scratch(worker, 2 * rows * kChainFloats));
  });
}

// kLanes neurons of one expert.
void CpuExperts::projectGroup(const ExpertsCall& call, int64_t expert, int64_t group, CpuExpertRows& state,
                              float* chains) const {
  const CpuMatrix& up = cpu(*call.up);
  const ExpertsFeedForward& spec = *call.spec;
  const float* bias = dataOf(call.upBias);
  const int64_t panels = expertRows(state.shape.neurons, spec.gated) / kLanes;
  const int64_t panel = expert * panels + (spec.gated ? 2 * group : group);
  const int64_t first = state.starts[static_cast<size_t>(expert)];
  const int64_t rows = state.starts[static_cast<size_t>(expert) + 1] - first;
  const float* x = state.read(first);
  Epilogue epilogue;
  epilogue.chains = chains;
  epilogue.bias = bias ? bias + panel * kLanes : nullptr;
  epilogue.activation = spec.activation;
  if (spec.clamped) {
    epilogue.clamped = true;
    epilogue.limit = spec.clamped->limit;
    epilogue.alpha = spec.clamped->alpha;
  }
  epilogue.rows = rows;
  epilogue.out = state.inner(first) + group * kLanes;
  epilogue.outStride = state.innerStride;
  kernels_.panelDot({up.panel(panel), up.dtype(), up.cols(), x, state.readStride, rows, chains});
  if (spec.gated) {
    epilogue.upChains = chains + rows * kChainFloats;
    epilogue.upBias = bias ? bias + (panel + 1) * kLanes : nullptr;
    kernels_.panelDot(
        {up.panel(panel + 1), up.dtype(), up.cols(), x, state.readStride, rows, chains + rows * kChainFloats});
  }
  kernels_.finish(epilogue);
}

void CpuExperts::add(const ExpertsCall& call, int64_t rows, CpuExpertRows& state, bool residual, CpuActivations& out) {
  const CpuMatrix& down = cpu(*call.down);
  const float* bias = dataOf(call.downBias);
  const int64_t panels = expertRows(state.shape.hidden, false) / kLanes;
  pool_.forEach(panels, [&](int64_t panel, int worker) {
    float* sums = scratch(worker, rows * kLanes + rows * kChainFloats);
    float* chains = sums + rows * kLanes;
    std::fill_n(sums, rows * kLanes, 0.0f);
    for (const int64_t expert : state.active) {
      const int64_t first = state.starts[static_cast<size_t>(expert)];
      const int64_t count = state.starts[static_cast<size_t>(expert) + 1] - first;
      const int64_t at = expert * panels + panel;
      kernels_.panelDot(
          {down.panel(at), down.dtype(), down.cols(), state.inner(first), state.innerStride, count, chains});
      kernels_.addWeighted({chains, bias ? bias + at * kLanes : nullptr, state.weightOf.data() + first,
                            state.rowOf.data() + first, count, sums});
    }
    for (int64_t row = 0; row < rows; ++row) {
      float* target = out.row(row) + panel * kLanes;
      for (int64_t lane = 0; lane < kLanes; ++lane)
        target[lane] = (residual ? target[lane] : 0) + sums[row * kLanes + lane];
    }
  });
}

}  // namespace shardspeed
