#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <memory>
#include <tuple>
#include <vector>

#include "backend.h"
#include "base/half.h"
#include "check.h"
#include "expert_reference.h"
#include "model/layout.h"
#include "reference_math.h"
#include "reference_sums.h"
#include "stored.h"

namespace shardspeed::test {

// What the operations of backend.h mean, in fp64, one number after another: nothing fused, nothing tiled, no threads.

class ReferenceMatrix final : public Matrix {
 public:
  ReferenceMatrix(int64_t rows, int64_t cols, DType dtype)
      : rows_(rows), cols_(cols), dtype_(dtype), values_(static_cast<size_t>(rows * cols)) {}
  int64_t rows() const override { return rows_; }
  int64_t cols() const override { return cols_; }
  DType dtype() const override { return dtype_; }
  size_t bytes() const override { return values_.size() * dtypeSize(dtype_); }
  void write(int64_t firstRow, int64_t count, const void* values) override {
    for (int64_t i = 0; i < count * cols_; ++i) {
      const auto* bytes = static_cast<const uint8_t*>(values) + static_cast<size_t>(i) * dtypeSize(dtype_);
      float value;
      uint16_t half;
      if (dtype_ == DType::kF32) {
        std::memcpy(&value, bytes, sizeof value);
      } else {
        std::memcpy(&half, bytes, sizeof half);
        value = dtype_ == DType::kF16 ? halfToFloat(half) : bfloat16ToFloat(half);
      }
      values_.at(static_cast<size_t>(firstRow * cols_ + i)) = static_cast<double>(value);
    }
  }
  // first + the product of a row with x.
  double product(double first, int64_t row, const std::vector<double>& x) const {
    REQUIRE(x.size() >= static_cast<size_t>(cols_));
    return sumOfProducts(first, x.data(), &values_.at(static_cast<size_t>(row * cols_)), static_cast<size_t>(cols_));
  }
  double at(int64_t row, int64_t col) const { return values_.at(static_cast<size_t>(row * cols_ + col)); }

 private:
  int64_t rows_;
  int64_t cols_;
  DType dtype_;
  std::vector<double> values_;
};

class ReferenceVector final : public Vector {
 public:
  ReferenceVector(const float* values, int64_t size) : values(values, values + size) {}
  int64_t size() const override { return static_cast<int64_t>(values.size()); }
  std::vector<double> values;
};

class ReferenceActivations final : public Activations {
 public:
  ReferenceActivations(int64_t capacity, int64_t cols)
      : cols_(cols), rows(static_cast<size_t>(capacity), std::vector<double>(static_cast<size_t>(cols))) {}
  int64_t cols() const override { return cols_; }

 private:
  int64_t cols_;

 public:
  std::vector<std::vector<double>> rows;
};

class ReferenceCache final : public KvCache {
 public:
  struct Entry {
    std::vector<double> key, value;
  };
  size_t bytes() const override { return 0; }
  std::map<std::tuple<int64_t, int64_t, int64_t>, Entry> entries;  // layer, slot (page * kPageTokens + token), KV head
};

class ReferenceExpertRows final : public ExpertRows {
 public:
  std::vector<std::vector<std::pair<size_t, double>>> routes;  // of each row: expert and weight
  std::vector<std::vector<std::vector<double>>> inner;         // of each row and route
};

class ReferenceBackend final : public Backend {
 public:
  // keptAs: what queries and keys are rounded to when they have been turned.
  explicit ReferenceBackend(DType keptAs = DType::kF32) : keptAs_(keptAs) {}

  std::unique_ptr<Matrix> makeMatrix(int64_t rows, int64_t cols, DType dtype) override {
    return std::make_unique<ReferenceMatrix>(rows, cols, dtype);
  }
  std::unique_ptr<Vector> makeVector(const float* values, int64_t size) override {
    return std::make_unique<ReferenceVector>(values, size);
  }
  std::unique_ptr<Activations> makeActivations(int64_t capacity, int64_t cols, Width) override {
    return std::make_unique<ReferenceActivations>(capacity, cols);
  }
  std::unique_ptr<KvCache> makeKvCache(int64_t, int64_t, const AttentionShape&) override {
    return std::make_unique<ReferenceCache>();
  }
  size_t kvPageBytes(int64_t, const AttentionShape&) const override { return 0; }
  void copyPages(const std::vector<PageCopy>& copies, KvCache& kvCache) override {
    auto& entries = static_cast<ReferenceCache&>(kvCache).entries;
    for (const PageCopy& copy : copies)
      for (const auto& [place, entry] : std::map(entries)) {
        const auto& [layer, slot, head] = place;
        if (slot / kPageTokens == copy.from) entries[{layer, slot + (copy.to - copy.from) * kPageTokens, head}] = entry;
      }
  }
  void prepareRotary(const std::vector<RotarySpec>& tables, int64_t) override { rotary_ = tables; }

  void embedTokens(const Step& step, const Matrix& table, int64_t firstToken, float scale, Activations& out) override {
    for (int64_t row = 0; row < step.rows; ++row) {
      const int64_t index = step.tokenIds[row] - firstToken;
      const bool held = index >= 0 && index < table.rows();
      for (int64_t k = 0; k < table.cols(); ++k)
        at(out, row, k) = held ? of(table).at(index, k) * static_cast<double>(scale) : 0;
    }
  }

  void addPositions(const Step& step, const Matrix& table, int64_t offset, Activations& out) override {
    for (const SequenceSlice& slice : step.sequences)
      for (int64_t i = 0; i < slice.rowCount; ++i)
        for (int64_t k = 0; k < table.cols(); ++k)
          at(out, slice.firstRow + i, k) += of(table).at(slice.contextLength + i + offset, k);
  }

  void copyTable(const Matrix& table, Activations& out) override {
    for (int64_t row = 0; row < table.rows(); ++row)
      for (int64_t k = 0; k < table.cols(); ++k) at(out, row, k) = of(table).at(row, k);
  }

  void project(const Projection& projection, int64_t rows, const Activations& in, Activations& out) override {
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

  void normalize(const Norm& norm, int64_t rows, Activations& x) override {
    for (int64_t row = 0; row < rows; ++row) {
      auto& values = static_cast<ReferenceActivations&>(x).rows.at(static_cast<size_t>(row));
      values = normed(norm, values);
    }
  }

  void addPart(const Norm* norm, float scale, int64_t rows, const Activations& part, Activations& x) override {
    for (int64_t row = 0; row < rows; ++row) {
      std::vector<double> values = of(part).rows.at(static_cast<size_t>(row));
      if (norm) values = normed(*norm, values);
      for (int64_t k = 0; k < x.cols(); ++k)
        at(x, row, k) += static_cast<double>(scale) * values[static_cast<size_t>(k)];
    }
  }

  void squareHeads(const AttentionCall&, int64_t, const Activations&, Activations&) override {}  // of one rank alone
  void attend(const Step& step, const AttentionCall& call, Activations& qkv, KvCache& kvCache,
              Activations& out) override {
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

  void joinHeads(const LatentHeads& shape, int64_t rows, const Activations& queries, const Activations& sharedKeys,
                 const Activations& keysValues, Activations& qkv) override {
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
  void narrowHeads(const LatentHeads& shape, int64_t rows, const Activations& in, Activations& out) override {
    for (int64_t row = 0; row < rows; ++row)
      for (int64_t col = 0; col < shape.heads * shape.valueDim; ++col)
        at(out, row, col) = of(in)
                                .rows.at(static_cast<size_t>(row))
                                .at(static_cast<size_t>(col / shape.valueDim * shape.headDim + col % shape.valueDim));
  }

  std::unique_ptr<ExpertRows> makeExpertRows(int64_t, const ExpertShape&) override {
    return std::make_unique<ReferenceExpertRows>();
  }
  void readExperts(const ExpertsCall& call, int64_t rows, const Activations& in, ExpertRows& state,
                   Activations* shared) override {
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
  void addExperts(const ExpertsCall& call, int64_t rows, ExpertRows& state, bool residual, Activations& out) override {
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

  void gatherRows(const Step& step, int64_t first, int64_t count, const Activations& in, Activations& out) override {
    for (int64_t i = 0; i < count; ++i)
      static_cast<ReferenceActivations&>(out).rows.at(static_cast<size_t>(i)) =
          of(in).rows.at(static_cast<size_t>(step.wantedRows.at(static_cast<size_t>(first + i))));
  }
  void readRows(const Activations& in, int64_t rows, float* host) override {
    for (int64_t row = 0; row < rows; ++row)
      for (const double value : of(in).rows.at(static_cast<size_t>(row))) *host++ = static_cast<float>(value);
  }

 private:
  static const ReferenceMatrix& of(const Matrix& matrix) { return static_cast<const ReferenceMatrix&>(matrix); }
  static const ReferenceActivations& of(const Activations& activations) {
    return static_cast<const ReferenceActivations&>(activations);
  }
  static double& at(Activations& activations, int64_t row, int64_t col) {
    return static_cast<ReferenceActivations&>(activations)
        .rows.at(static_cast<size_t>(row))
        .at(static_cast<size_t>(col));
  }
  static std::vector<double> normed(const Norm& norm, const std::vector<double>& x) {
    const auto* weight = static_cast<const ReferenceVector*>(norm.weight);
    const auto* bias = static_cast<const ReferenceVector*>(norm.bias);
    return normOf(norm.kind, static_cast<double>(norm.epsilon), weight ? weight->values.data() : nullptr,
                  bias ? bias->values.data() : nullptr, x);
  }
  static double dot(const Matrix* matrix, const Vector* bias, int64_t row, const std::vector<double>& x) {
    return of(*matrix).product(bias ? valueOf(bias, row) : 0, row, x);
  }
  // What the downward product of an expert reads.
  static std::vector<double> innerOf(const ExpertsCall& call, int64_t expert, const std::vector<double>& x) {
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
  static double valueOf(const Vector* vector, int64_t index) {
    return static_cast<const ReferenceVector*>(vector)->values.at(static_cast<size_t>(index));
  }
  static int64_t slotOf(const SequenceSlice& slice, int64_t position) {
    return slice.pages[position / kPageTokens] * kPageTokens + position % kPageTokens;
  }

  // All queries of a head of keys. These are looked up once, not for each query.
  static void attendHead(const SequenceSlice& slice, const AttentionCall& call, int64_t kvHead,
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

  // Norms, clamps and turns.
  void prepareRow(const AttentionCall& call, const SequenceSlice& slice, int64_t position, double* row) const {
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
        row[i] *= 1 + static_cast<double>(heat->scale) *
                          std::log(1 + std::floor(static_cast<double>(position + heat->offset) /
                                                  static_cast<double>(heat->period)));
    if (rotary && keptAs_ != DType::kF32)
      for (int64_t i = 0; i < (heads + kvHeads) * dim; ++i)
        row[i] = static_cast<double>(roundedTo(keptAs_, static_cast<float>(row[i])));
  }
  static void normQueriesAndKeys(const AttentionCall& call, double* row) {
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
  // The first key that a query sees, and one behind the last.
  // What learned scores of distances, or products with relative positions, add to the scores of neighbouring keys.
  static std::vector<double> distanceTerms(const AttentionCall& call, int64_t head, int64_t firstDistance,
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

  static std::pair<int64_t, int64_t> visible(const AttentionMask& mask, int64_t position, int64_t known) {
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

  DType keptAs_;
  std::vector<RotarySpec> rotary_;
};

}  // namespace shardspeed::test
