#include "cpu/experts.h"

#include <algorithm>
#include <cmath>

#include "cpu/router.h"
#include "model/layout.h"

namespace shardspeed {

namespace {

constexpr int64_t kRouterRows = 64;  // that one thread computes logits of at a time
constexpr int64_t kChainFloats = 2 * kLanes;
constexpr int64_t kPackedCols = 64, kPackedFloats = 4096;  // that a thread packs at a time, at least

const CpuMatrix& cpu(const Matrix& matrix) {
  return static_cast<const CpuMatrix&>(matrix);
}

// Floats of each part of the memory of CpuExpertRows.
struct Parts {
  Parts(int64_t capacity, const ExpertShape& shape)
      : slots(capacity * shape.perToken),
        read(roundUp(slots * std::max(shape.hidden, shape.neurons), kLanes)),
        inner(slots * roundUp(shape.neurons, kLanes)),
        logits(capacity * roundUp(shape.experts + 1, kLanes)),  // with the gate of a shared expert, if there is one
        scratch(2 * kChainFloats * std::max(kRouterRows, capacity)) {}
  int64_t slots, read, inner, logits, scratch;
};

}  // namespace

CpuExpertRows::CpuExpertRows(int64_t capacity, const ExpertShape& wanted, int threads)
    : shape(wanted),
      innerStride(roundUp(wanted.neurons, kLanes)),
      starts(static_cast<size_t>(wanted.experts) + 1),
      memory_(bytesOf(capacity, wanted, threads), "activations") {
  const Parts parts(capacity, wanted);
  gathered_ = memory_.as<float>();
  inner_ = gathered_ + parts.read;
  scratch_ = inner_ + parts.inner;
  scratchFloats_ = parts.scratch;
  logits = scratch_ + threads * parts.scratch;
  weights = logits + parts.logits;
  weightOf = weights + parts.slots;
  chosen = reinterpret_cast<int32_t*>(weightOf + parts.slots);
  rowOf = chosen + parts.slots;
}

size_t CpuExpertRows::bytesOf(int64_t capacity, const ExpertShape& shape, int threads) {
  const Parts parts(capacity, shape);
  const int64_t floats = parts.read + parts.inner + parts.logits + 4 * parts.slots + threads * parts.scratch;
  return static_cast<size_t>(floats) * sizeof(float);
}

void CpuExpertRows::sort(int64_t rows) {
  slots = rows * shape.perToken;
  std::fill(starts.begin(), starts.end(), 0);
  for (int64_t i = 0; i < slots; ++i) ++starts[static_cast<size_t>(chosen[i]) + 1];
  active.clear();
  for (size_t expert = 0; expert + 1 < starts.size(); ++expert) {
    if (starts[expert + 1] > 0) active.push_back(static_cast<int32_t>(expert));
    starts[expert + 1] += starts[expert];
  }
  next_.assign(starts.begin(), starts.end() - 1);
  for (int64_t i = 0; i < slots; ++i) {
    const int64_t slot = next_[static_cast<size_t>(chosen[i])]++;
    rowOf[slot] = static_cast<int32_t>(i / shape.perToken);
    weightOf[slot] = weights[i];
  }
}

void CpuExperts::read(const ExpertsCall& call, int64_t rows, const float* x, int64_t stride, CpuExpertRows& state,
                      CpuActivations* shared) {
  route(call, rows, x, stride, state);
  gather(call, x, stride, state);
  projectUp(call, state);
  if (!shared) return;
  const int64_t logits = cpu(*call.router).panels() * kLanes;
  pool_.forEach(rows, [&](int64_t row, int) {
    const float gate = state.logits[row * logits + state.shape.experts];
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
  pool_.forEach(panels * tiles, [&](int64_t item, int worker) {
    const int64_t panel = item % panels, first = item / panels * kRouterRows;
    const int64_t count = std::min(kRouterRows, rows - first);
    Epilogue epilogue;
    float* chains = state.scratch(worker);
    kernels_.panelDot({router.panel(panel), router.dtype(), router.cols(), x + first * stride, stride, count, chains});
    epilogue.chains = chains;
    epilogue.bias = bias ? bias + panel * kLanes : nullptr;
    epilogue.rows = count;
    epilogue.out = state.logits + first * width + panel * kLanes;
    epilogue.outStride = width;
    kernels_.finish(epilogue);
  });
  pool_.forEach(tiles, [&](int64_t tile, int) {
    Router choice(*call.spec, dataOf(call.correction));
    for (int64_t row = tile * kRouterRows; row < std::min(rows, (tile + 1) * kRouterRows); ++row) {
      // The gate of the shared expert, which stands behind the others, stays as it is.
      choice.choose(state.logits + row * width, state.chosen + row * perToken, state.weights + row * perToken);
    }
  });
  state.sort(rows);
}

bool CpuExperts::packs(int64_t rows) const {
  return rows <= kernels_.mostPackedRows;
}

void CpuExperts::pack(CpuExpertRows& state, const RowPack& rows) {
  const auto experts = static_cast<int64_t>(state.active.size());
  const int64_t partCols = std::max(kPackedCols, kPackedFloats * experts / state.slots);
  const int64_t parts = (rows.cols + partCols - 1) / partCols;
  pool_.forEach(experts * parts, [&](int64_t item, int) {
    const int64_t expert = state.active[static_cast<size_t>(item / parts)];
    const int64_t first = state.firstOf(expert), count = state.countOf(expert);
    if (!rows.rowOf && !packs(count)) return;  // they are where they are read
    RowPack own = rows;
    own.firstCol = item % parts * partCols;
    own.endCol = std::min(rows.cols, own.firstCol + partCols);
    // Rows that lie apart are so many packs of one row.
    own.rows = packs(count) ? count : 1;
    for (int64_t slot = first; slot < first + count; slot += own.rows) {
      own.out = state.gathered(slot, rows.cols);
      own.x = rows.rowOf ? rows.x : rows.x + slot * rows.xStride;
      own.rowOf = rows.rowOf ? rows.rowOf + slot : nullptr;
      own.weightOf = rows.weightOf ? rows.weightOf + slot : nullptr;
      kernels_.packRows(own);
    }
  });
}

void CpuExperts::gather(const ExpertsCall& call, const float* x, int64_t stride, CpuExpertRows& state) {
  const bool weighs = call.spec->router.weighsInput;
  RowPack rows;
  rows.x = x;
  rows.xStride = stride;
  rows.cols = state.shape.hidden;
  rows.rowOf = state.rowOf;
  if (weighs) rows.weightOf = state.weightOf;
  pack(state, rows);
  if (weighs) std::fill_n(state.weightOf, state.slots, 1.0f);
}

void CpuExperts::projectUp(const ExpertsCall& call, CpuExpertRows& state) {
  const int64_t panels = expertRows(state.shape.neurons, call.spec->gated) / kLanes;
  const int64_t groups = call.spec->gated ? panels / 2 : panels;
  pool_.forEach(static_cast<int64_t>(state.active.size()) * groups, [&](int64_t item, int worker) {
    const int64_t expert = state.active[static_cast<size_t>(item / groups)];
    projectGroup(call, expert, item % groups, state, state.scratch(worker));
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
  const int64_t first = state.firstOf(expert), rows = state.countOf(expert);
  const float* x = state.gathered(first, up.cols());
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
  kernels_.panelDot({up.panel(panel), up.dtype(), up.cols(), x, up.cols(), rows, chains, packs(rows)});
  if (spec.gated) {
    epilogue.upChains = chains + rows * kChainFloats;
    epilogue.upBias = bias ? bias + (panel + 1) * kLanes : nullptr;
    kernels_.panelDot(
        {up.panel(panel + 1), up.dtype(), up.cols(), x, up.cols(), rows, chains + rows * kChainFloats, packs(rows)});
  }
  kernels_.finish(epilogue);
}

void CpuExperts::add(const ExpertsCall& call, int64_t rows, CpuExpertRows& state, bool residual, CpuActivations& out) {
  const CpuMatrix& down = cpu(*call.down);
  const float* bias = dataOf(call.downBias);
  const int64_t panels = expertRows(state.shape.hidden, false) / kLanes;
  // Single rows, and those that are not packed, are read where they are.
  const auto isPacked = [&](int64_t count) { return count > 1 && packs(count); };
  if (state.slots > static_cast<int64_t>(state.active.size())) {
    RowPack inner;
    inner.x = state.inner(0);
    inner.xStride = state.innerStride;
    inner.cols = down.cols();
    pack(state, inner);
  }
  pool_.forEach(panels, [&](int64_t panel, int worker) {
    float* sums = state.scratch(worker);
    float* chains = sums + rows * kLanes;
    std::fill_n(sums, rows * kLanes, 0.0f);
    for (const int64_t expert : state.active) {
      const int64_t first = state.firstOf(expert), count = state.countOf(expert);
      const int64_t at = expert * panels + panel;
      const float* x = isPacked(count) ? state.gathered(first, down.cols()) : state.inner(first);
      kernels_.panelDot(
          {down.panel(at), down.dtype(), down.cols(), x, state.innerStride, count, chains, isPacked(count)});
      kernels_.addWeighted(
          {chains, bias ? bias + at * kLanes : nullptr, state.weightOf + first, state.rowOf + first, count, sums});
    }
    for (int64_t row = 0; row < rows; ++row) {
      float* target = out.row(row) + panel * kLanes;
      for (int64_t lane = 0; lane < kLanes; ++lane)
        target[lane] = (residual ? target[lane] : 0) + sums[row * kLanes + lane];
    }
  });
}

}  // namespace shardspeed
