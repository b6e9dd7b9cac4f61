#pragma once

#include <cstring>
#include <map>
#include <memory>
#include <tuple>
#include <utility>
#include <vector>

#include "backend.h"
#include "base/half.h"
#include "check.h"
#include "reference_sums.h"

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

  std::unique_ptr<Matrix> makeMatrix(int64_t rows, int64_t cols, DType dtype) override;
  std::unique_ptr<Vector> makeVector(const float* values, int64_t size) override;
  std::unique_ptr<Activations> makeActivations(int64_t capacity, int64_t cols, Width) override;
  std::unique_ptr<KvCache> makeKvCache(int64_t, int64_t, const AttentionShape&) override;
  size_t kvPageBytes(int64_t, const AttentionShape&) const override { return 0; }
  void copyPages(const std::vector<PageCopy>& copies, KvCache& kvCache) override;
  void prepareRotary(const std::vector<RotarySpec>& tables, int64_t) override { rotary_ = tables; }

  void embedTokens(const Step& step, const Matrix& table, int64_t firstToken, float scale, Activations& out) override;

  void addPositions(const Step& step, const Matrix& table, int64_t offset, Activations& out) override;

  void copyTable(const Matrix& table, Activations& out) override;

  void project(const Projection& projection, int64_t rows, const Activations& in, Activations& out) override;

  void normalize(const Norm& norm, int64_t rows, Activations& x) override;

  void addPart(const Norm* norm, float scale, int64_t rows, const Activations& part, Activations& x) override;

  void squareHeads(const AttentionCall&, int64_t, const Activations&, Activations&) override {}  // of one rank alone
  void attend(const Step& step, const AttentionCall& call, Activations& qkv, KvCache& kvCache,
              Activations& out) override;

  void joinHeads(const LatentHeads& shape, int64_t rows, const Activations& queries, const Activations& sharedKeys,
                 const Activations& keysValues, Activations& qkv) override;
  void narrowHeads(const LatentHeads& shape, int64_t rows, const Activations& in, Activations& out) override;

  std::unique_ptr<ExpertRows> makeExpertRows(int64_t, const ExpertShape&) override;
  void readExperts(const ExpertsCall& call, int64_t rows, const Activations& in, ExpertRows& state,
                   Activations* shared) override;
  void addExperts(const ExpertsCall& call, int64_t rows, ExpertRows& state, bool residual, Activations& out) override;

  void gatherRows(const Step& step, int64_t first, int64_t count, const Activations& in, Activations& out) override;
  void readRows(const Activations& in, int64_t rows, float* host) override;

 private:
  static const ReferenceMatrix& of(const Matrix& matrix) { return static_cast<const ReferenceMatrix&>(matrix); }
  static const ReferenceActivations& of(const Activations& activations) {
    return static_cast<const ReferenceActivations&>(activations);
  }
  static double& at(Activations& activations, int64_t row, int64_t col);
  static std::vector<double> normed(const Norm& norm, const std::vector<double>& x);
  static double dot(const Matrix* matrix, const Vector* bias, int64_t row, const std::vector<double>& x) {
    return of(*matrix).product(bias ? valueOf(bias, row) : 0, row, x);
  }
  // What the downward product of an expert reads.
  static std::vector<double> innerOf(const ExpertsCall& call, int64_t expert, const std::vector<double>& x);
  static double valueOf(const Vector* vector, int64_t index) {
    return static_cast<const ReferenceVector*>(vector)->values.at(static_cast<size_t>(index));
  }
  static int64_t slotOf(const SequenceSlice& slice, int64_t position) {
    return slice.pages[position / kPageTokens] * kPageTokens + position % kPageTokens;
  }

  // All queries of a head of keys. These are looked up once, not for each query.
  static void attendHead(const SequenceSlice& slice, const AttentionCall& call, int64_t kvHead,
                         const ReferenceCache& cache, Activations& qkv, Activations& out);

  // Norms, clamps and turns.
  void prepareRow(const AttentionCall& call, const SequenceSlice& slice, int64_t position, double* row) const;
  static void normQueriesAndKeys(const AttentionCall& call, double* row);
  // What learned scores of distances, or products with relative positions, add to the scores of neighbouring keys.
  static std::vector<double> distanceTerms(const AttentionCall& call, int64_t head, int64_t firstDistance,
                                           const double* query, const std::vector<const double*>& keys);

  // The first key that a query sees, and one behind the last.
  static std::pair<int64_t, int64_t> visible(const AttentionMask& mask, int64_t position, int64_t known);

  DType keptAs_;
  std::vector<RotarySpec> rotary_;
};

}  // namespace shardspeed::test
