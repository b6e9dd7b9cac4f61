#include "reference.h"

#include <algorithm>
#include <cmath>

#include "expert_reference.h"
#include "model/layout.h"
#include "reference_math.h"
#include "stored.h"

namespace shardspeed::test {

std::unique_ptr<Matrix> ReferenceBackend::makeMatrix(int64_t rows, int64_t cols, DType dtype) {
  return std::make_unique<ReferenceMatrix>(rows, cols, dtype);
}

std::unique_ptr<Vector> ReferenceBackend::makeVector(const float* values, int64_t size) {
  return std::make_unique<ReferenceVector>(values, size);
}

std::unique_ptr<Activations> ReferenceBackend::makeActivations(int64_t capacity, int64_t cols, Width) {
  return std::make_unique<ReferenceActivations>(capacity, cols);
}

std::unique_ptr<KvCache> ReferenceBackend::makeKvCache(int64_t, int64_t, const AttentionShape&) {
  return std::make_unique<ReferenceCache>();
}

void ReferenceBackend::copyPages(const std::vector<PageCopy>& copies, KvCache& kvCache) {
  auto& entries = static_cast<ReferenceCache&>(kvCache).entries;
  for (const PageCopy& copy : copies)
    for (const auto& [place, entry] : std::map(entries)) {
      const auto& [layer, slot, head] = place;
      if (slot / kPageTokens == copy.from) entries[{layer, slot + (copy.to - copy.from) * kPageTokens, head}] = entry;
    }
}

void ReferenceBackend::embedTokens(const Step& step, const Matrix& table, int64_t firstToken, float scale,
                                   Activations& out) {
  for (int64_t row = 0; row < step.rows; ++row) {
    const int64_t index = step.tokenIds[row] - firstToken;
    const bool held = index >= 0 && index < table.rows();
    for (int64_t k = 0; k < table.cols(); ++k)
      at(out, row, k) = held ? of(table).at(index, k) * static_cast<double>(scale) : 0;
  }
}

void ReferenceBackend::addPositions(const Step& step, const Matrix& table, int64_t offset, Activations& out) {
  for (const SequenceSlice& slice : step.sequences)
    for (int64_t i = 0; i < slice.rowCount; ++i)
      for (int64_t k = 0; k < table.cols(); ++k)
        at(out, slice.firstRow + i, k) += of(table).at(slice.contextLength + i + offset, k);
}

void ReferenceBackend::copyTable(const Matrix& table, Activations& out) {
  for (int64_t row = 0; row < table.rows(); ++row)
    for (int64_t k = 0; k < table.cols(); ++k) at(out, row, k) = of(table).at(row, k);
}

void ReferenceBackend::project(const Projection& projection, int64_t rows, const Activations& in, Activations& out) {
  const ReferenceMatrix& weight = of(*projection.weight);
  const auto* bias = static_cast<const ReferenceVector*>(projection.bias);
  for (int64_t row = 0; row < rows; ++row) {
    std::vector<double> x = of(in).rows.at(static_cast<size_t>(row));
    if (projection.norm) x = normed(*projection.norm, x);
    const auto dot = [&](int64_t output) {
      return weight.product(bias ? bias->values.at(static_cast<size_t>(output)) : 0, output, x);
    };
    for (int64_t column = 0; column < out.cols(); ++column) {
      const int64_t gate = column / kGateBlock * 2 * kGateBlock + column % kGateBlock;
      double value = activationOf(projection.activation, dot(projection.gated ? gate : column), projection.xielu);
      if (projection.gated) value *= dot(gate + kGateBlock);
      value *= static_cast<double>(projection.scale);
      const auto cap = static_cast<double>(projection.softCap);
      if (cap > 0) value = cap * std::tanh(value / cap);
      at(out, row, column) = value + (projection.residual ? at(out, row, column) : 0);
    }
  }
}

void ReferenceBackend::normalize(const Norm& norm, int64_t rows, Activations& x) {
  for (int64_t row = 0; row < rows; ++row) {
    auto& values = static_cast<ReferenceActivations&>(x).rows.at(static_cast<size_t>(row));
    values = normed(norm, values);
  }
}

void ReferenceBackend::addPart(const Norm* norm, float scale, int64_t rows, const Activations& part, Activations& x) {
  for (int64_t row = 0; row < rows; ++row) {
    std::vector<double> values = of(part).rows.at(static_cast<size_t>(row));
    if (norm) values = normed(*norm, values);
    for (int64_t k = 0; k < x.cols(); ++k) at(x, row, k) += static_cast<double>(scale) * values[static_cast<size_t>(k)];
  }
}

void ReferenceBackend::attend(const Step& step, const AttentionCall& call, Activations& qkv, KvCache& kvCache,
                              Activations& out) {
  const auto& [heads, kvHeads, dim] = call.shape;
  auto& cache = static_cast<ReferenceCache&>(kvCache);
  for (const SequenceSlice& slice : step.sequences)
    for (int64_t i = 0; i < slice.rowCount; ++i) {
      const int64_t position = slice.contextLength + i;
      double* row = &at(qkv, slice.firstRow + i, 0);
      prepareRow(call, slice, position, row);
      for (int64_t head = 0; head < kvHeads; ++head) {
        const double* key = row + (heads + head) * dim;
        const double* value = key + kvHeads * dim;
        cache.entries[{call.layer, slotOf(slice, position), head}] = {{key, key + dim}, {value, value + dim}};
      }
    }
  for (const SequenceSlice& slice : step.sequences)
    for (int64_t head = 0; head < kvHeads; ++head) attendHead(slice, call, head, cache, qkv, out);
}

void ReferenceBackend::joinHeads(const LatentHeads& shape, int64_t rows, const Activations& queries,
                                 const Activations& sharedKeys, const Activations& keysValues, Activations& qkv) {
  const auto& [heads, dim, shared, valueDim] = shape;
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t head = 0; head < heads; ++head)
      for (int64_t d = 0; d < dim; ++d) {
        const auto in = [&](const Activations& from, int64_t col) {
          return of(from).rows.at(static_cast<size_t>(row)).at(static_cast<size_t>(col));
        };
        const bool isShared = d < shared;
        at(qkv, row, head * dim + d) = in(queries, head * dim + (isShared ? dim - shared + d : d - shared));
        at(qkv, row, (heads + head) * dim + d) =
            isShared ? in(sharedKeys, d) : in(keysValues, head * (dim - shared) + d - shared);
        at(qkv, row, (2 * heads + head) * dim + d) =
            d < valueDim ? in(keysValues, heads * (dim - shared) + head * valueDim + d) : 0;
      }
}

void ReferenceBackend::narrowHeads(const LatentHeads& shape, int64_t rows, const Activations& in, Activations& out) {
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t col = 0; col < shape.heads * shape.valueDim; ++col)
      at(out, row, col) = of(in)
                              .rows.at(static_cast<size_t>(row))
                              .at(static_cast<size_t>(col / shape.valueDim * shape.headDim + col % shape.valueDim));
}

std::unique_ptr<ExpertRows> ReferenceBackend::makeExpertRows(int64_t, const ExpertShape&) {
  return std::make_unique<ReferenceExpertRows>();
}

void ReferenceBackend::readExperts(const ExpertsCall& call, int64_t rows, const Activations& in, ExpertRows& state,
                                   Activations* shared) {
  auto& [routes, inner] = static_cast<ReferenceExpertRows&>(state);
  routes.clear();
  inner.clear();
  const ExpertsFeedForward& spec = *call.spec;
  for (int64_t row = 0; row < rows; ++row) {
    std::vector<double> x = of(in).rows.at(static_cast<size_t>(row));
    if (call.norm) x = normed(*call.norm, x);
    std::vector<double> logits;
    for (int64_t e = 0; e < call.router->rows(); ++e) logits.push_back(dot(call.router, call.routerBias, e, x));
    if (shared)
      for (int64_t k = 0; k < shared->cols(); ++k) at(*shared, row, k) /= 1 + std::exp(-logits.back());
    logits.resize(static_cast<size_t>(spec.count));
    std::vector<double> correction;
    for (int64_t e = 0; call.correction && e < spec.count; ++e) correction.push_back(valueOf(call.correction, e));
    routes.push_back(routed(spec, logits, correction));
    for (auto& [expert, weight] : routes.back()) {
      std::vector<double> read = x;
      if (spec.router.weighsInput)
        for (double& value : read) value *= weight;
      if (inner.size() < routes.size()) inner.emplace_back();
      inner.back().push_back(innerOf(call, static_cast<int64_t>(expert), read));
      if (spec.router.weighsInput) weight = 1;
    }
  }
}

void ReferenceBackend::addExperts(const ExpertsCall& call, int64_t rows, ExpertRows& state, bool residual,
                                  Activations& out) {
  auto& [routes, inner] = static_cast<ReferenceExpertRows&>(state);
  const int64_t stride = expertRows(out.cols(), false);
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t column = 0; column < out.cols(); ++column) {
      double sum = residual ? at(out, row, column) : 0;
      const auto& own = routes.at(static_cast<size_t>(row));
      for (size_t i = 0; i < own.size(); ++i)
        sum += own[i].second * dot(call.down, call.downBias, static_cast<int64_t>(own[i].first) * stride + column,
                                   inner.at(static_cast<size_t>(row)).at(i));
      at(out, row, column) = sum;
    }
}

void ReferenceBackend::gatherRows(const Step& step, int64_t first, int64_t count, const Activations& in,
                                  Activations& out) {
  for (int64_t i = 0; i < count; ++i)
    static_cast<ReferenceActivations&>(out).rows.at(static_cast<size_t>(i)) =
        of(in).rows.at(static_cast<size_t>(step.wantedRows.at(static_cast<size_t>(first + i))));
}

void ReferenceBackend::readRows(const Activations& in, int64_t rows, float* host) {
  for (int64_t row = 0; row < rows; ++row)
    for (const double value : of(in).rows.at(static_cast<size_t>(row))) *host++ = static_cast<float>(value);
}

double& ReferenceBackend::at(Activations& activations, int64_t row, int64_t col) {
  return static_cast<ReferenceActivations&>(activations).rows.at(static_cast<size_t>(row)).at(static_cast<size_t>(col));
}

std::vector<double> ReferenceBackend::normed(const Norm& norm, const std::vector<double>& x) {
  const auto* weight = static_cast<const ReferenceVector*>(norm.weight);
  const auto* bias = static_cast<const ReferenceVector*>(norm.bias);
  return normOf(norm.kind, static_cast<double>(norm.epsilon), weight ? weight->values.data() : nullptr,
                bias ? bias->values.data() : nullptr, x);
}

std::vector<double> ReferenceBackend::innerOf(const ExpertsCall& call, int64_t expert, const std::vector<double>& x) {
  const ExpertsFeedForward& spec = *call.spec;
  const int64_t first = expert * expertRows(call.neurons, spec.gated);
  std::vector<double> inner;
  for (int64_t n = 0; n < call.neurons; ++n) {
    const int64_t gateRow = first + n / kGateBlock * 2 * kGateBlock + n % kGateBlock;
    const double value = dot(call.up, call.upBias, spec.gated ? gateRow : first + n, x);
    if (spec.clamped)
      inner.push_back(clampedGate(*spec.clamped, value, dot(call.up, call.upBias, gateRow + kGateBlock, x)));
    else
      inner.push_back(activationOf(spec.activation, value) *
                      (spec.gated ? dot(call.up, call.upBias, gateRow + kGateBlock, x) : 1));
  }
  return inner;
}

void ReferenceBackend::attendHead(const SequenceSlice& slice, const AttentionCall& call, int64_t kvHead,
                                  const ReferenceCache& cache, Activations& qkv, Activations& out) {
  const auto& [heads, kvHeads, dim] = call.shape;
  const int64_t known = slice.contextLength + slice.rowCount, group = heads / kvHeads;
  std::vector<const double*> keys, values;
  for (int64_t key = 0; key < known; ++key) {
    const auto found = cache.entries.find({call.layer, slotOf(slice, key), kvHead});
    keys.push_back(found == cache.entries.end() ? nullptr : found->second.key.data());
    values.push_back(found == cache.entries.end() ? nullptr : found->second.value.data());
  }
  for (int64_t i = 0; i < slice.rowCount; ++i) {
    const int64_t position = slice.contextLength + i, row = slice.firstRow + i;
    const auto [first, end] = visible(call.mask, position, known);
    const std::vector<const double*> seenKeys(keys.begin() + first, keys.begin() + end);
    const std::vector<const double*> seenValues(values.begin() + first, values.begin() + end);
    REQUIRE(std::find(seenKeys.begin(), seenKeys.end(), nullptr) == seenKeys.end());
    for (int64_t head = kvHead * group; head < (kvHead + 1) * group; ++head) {
      ScoreTerms terms;
      terms.softCap = static_cast<double>(call.softCap);
      terms.firstDistance = static_cast<double>(first - position);
      if (std::holds_alternative<AlibiPositions>(call.positions)) terms.slope = valueOf(call.slopes, head);
      if (call.sinks) terms.sink = valueOf(call.sinks, head);
      const double* query = &at(qkv, row, head * dim);
      terms.others = distanceTerms(call, head, first - position, query, seenKeys);
      const std::vector<double> result =
          attentionOf(query, seenKeys, seenValues, static_cast<size_t>(dim), static_cast<double>(call.scale), terms);
      for (int64_t d = 0; d < dim; ++d) at(out, row, head * dim + d) = result[static_cast<size_t>(d)];
    }
  }
}

void ReferenceBackend::prepareRow(const AttentionCall& call, const SequenceSlice& slice, int64_t position,
                                  double* row) const {
  const auto& [heads, kvHeads, dim] = call.shape;
  if (!call.normsAfterPositions) normQueriesAndKeys(call, row);
  if (call.clamp > 0)
    for (int64_t i = 0; i < (heads + 2 * kvHeads) * dim; ++i)
      row[i] = std::clamp(row[i], -static_cast<double>(call.clamp), static_cast<double>(call.clamp));
  const auto* rotary = std::get_if<RotaryPositions>(&call.positions);
  for (int64_t head = 0; rotary && head < heads + kvHeads; ++head)
    rotate(rotary_.at(static_cast<size_t>(rotary->table)), position, slice.totalLength, row + head * dim,
           rotary->layout);
  if (call.normsAfterPositions) normQueriesAndKeys(call, row);
  if (const auto& heat = call.temperature)
    for (int64_t i = 0; i < heads * dim; ++i)
      row[i] *=
          1 + static_cast<double>(heat->scale) * std::log(1 + std::floor(static_cast<double>(position + heat->offset) /
                                                                         static_cast<double>(heat->period)));
  if (rotary && keptAs_ != DType::kF32)
    for (int64_t i = 0; i < (heads + kvHeads) * dim; ++i)
      row[i] = static_cast<double>(roundedTo(keptAs_, static_cast<float>(row[i])));
}

void ReferenceBackend::normQueriesAndKeys(const AttentionCall& call, double* row) {
  const auto& [heads, kvHeads, dim] = call.shape;
  const auto part = [](const Vector* vector, int64_t first, int64_t size) -> std::vector<double> {
    if (!vector) return {};
    const auto begin = static_cast<const ReferenceVector*>(vector)->values.begin() + first;
    return {begin, begin + size};
  };
  const auto normHeads = [&, dim = dim](const Norm* norm, double* first, int64_t count) {
    if (!norm) return;
    const int64_t size = call.normSpan == QkNormSpan::kRow ? count * dim : dim;
    for (int64_t at = 0; at < count * dim; at += size) {
      const int64_t own = call.normsHeadsApart ? at : 0;
      const std::vector<double> weight = part(norm->weight, own, size), bias = part(norm->bias, own, size);
      const std::vector<double> values =
          normOf(norm->kind, static_cast<double>(norm->epsilon), weight.empty() ? nullptr : weight.data(),
                 bias.empty() ? nullptr : bias.data(), {first + at, first + at + size});
      std::copy(values.begin(), values.end(), first + at);
    }
  };
  normHeads(call.queryNorm, row, heads);
  normHeads(call.keyNorm, row + heads * dim, kvHeads);
}

std::vector<double> ReferenceBackend::distanceTerms(const AttentionCall& call, int64_t head, int64_t firstDistance,
                                                    const double* query, const std::vector<const double*>& keys) {
  std::vector<double> terms;
  const auto* relative = std::get_if<RelativePositions>(&call.positions);
  if (!relative && !call.distanceScores) return terms;
  for (const double* key : keys) {
    const int64_t distance = firstDistance + static_cast<int64_t>(terms.size());
    if (!relative) {
      terms.push_back(valueOf(call.distanceScores, (2 * head + 1) * call.reach + distance));
      continue;
    }
    const auto& row = of(*call.relativeRows).rows.at(static_cast<size_t>(call.relativeTable->row(distance)));
    double sum = 0;
    for (int64_t d = 0; d < call.shape.headDim; ++d) {
      const auto asQuery = static_cast<size_t>(head * call.shape.headDim + d);
      const auto asKey = static_cast<size_t>((call.shape.heads + head) * call.shape.headDim + d);
      sum += (relative->queries ? query[d] * row[asKey] : 0) + (relative->keys ? key[d] * row[asQuery] : 0);
    }
    terms.push_back(static_cast<double>(call.scale) * sum);
  }
  return terms;
}

std::pair<int64_t, int64_t> ReferenceBackend::visible(const AttentionMask& mask, int64_t position, int64_t known) {
  if (std::holds_alternative<FullMask>(mask)) return {0, known};
  if (const auto* band = std::get_if<BandMask>(&mask))
    return {position - std::min(position, band->size), position + std::min(known - 1 - position, band->size) + 1};
  int64_t first = 0;
  const auto* window = std::get_if<WindowMask>(&mask);
  const auto* chunk = std::get_if<ChunkMask>(&mask);
  while ((window && position - first >= window->size) || (chunk && position / chunk->size > first / chunk->size))
    ++first;
  return {first, position + 1};
}

}  // namespace shardspeed::test
