#pragma once

#include <algorithm>
#include <functional>
#include <memory>
#include <numeric>
#include <utility>
#include <vector>

#include "attention_cases.h"
#include "random.h"
#include "stored.h"

// Runs a case of attention_cases.h on anything that attends, in steps of any form.

namespace shardspeed::test {

constexpr int64_t kMostPositions = 2048;

// An AttentionCall with what it points to.
class OwnedCall {
 public:
  using MakeVector = std::function<std::unique_ptr<Vector>(const std::vector<float>&)>;
  // Rows of so many columns, of relative positions.
  using MakeRows = std::function<std::unique_ptr<Activations>(const std::vector<float>&, int64_t)>;

  OwnedCall(const AttentionCase& attention, const MakeVector& makeVector, const MakeRows& makeRows) {
    const AttentionShape& shape = attention.shape;
    Random random(5);
    const auto add = [&](const std::vector<float>& values) {
      vectors_.push_back(makeVector(values));
      return vectors_.back().get();
    };
    call_.shape = shape;
    call_.scale = attention.scale;
    call_.mask = attention.mask;
    call_.positions = attention.positions;
    call_.softCap = attention.softCap;
    call_.clamp = attention.clamp;
    call_.normSpan = attention.normSpan;
    call_.normsHeadsApart = attention.normsHeadsApart;
    call_.normsAfterPositions = attention.normsAfterPositions;
    call_.temperature = attention.temperature;
    if (std::holds_alternative<AlibiPositions>(attention.positions)) {
      std::vector<float> slopes;
      for (int64_t head = 0; head < shape.heads; ++head)
        slopes.push_back(std::exp2(-8.0f * static_cast<float>(head + 1) / static_cast<float>(shape.heads)));
      call_.slopes = add(slopes);
    }
    if (auto* rotary = std::get_if<RotaryPositions>(&call_.positions)) {
      rotary->table = attention.rotaryTable;
      tables_ = {rotaryTable(attention, rotary->dims, 500), rotaryTable(attention, rotary->dims, 10000)};
      tables_[0].dynamicOriginalPositions = 0;
    }
    if (std::holds_alternative<BucketPositions>(attention.positions)) {
      call_.reach = kMostPositions;
      call_.distanceScores = add(random.normals(shape.heads * 2 * call_.reach));
    }
    if (std::holds_alternative<RelativePositions>(attention.positions)) {
      table_.rows = 9;
      for (int32_t i = 0; i < 25; ++i) table_.rowOf.push_back(i * 7 % 9);
      std::vector<float> rows;  // that all element types hold
      for (int64_t i = 0; i < table_.rows * attention.columns(); ++i)
        rows.push_back(static_cast<float>(random.between(-24, 24)) / 16);
      relativeRows_ = makeRows(rows, attention.columns());
      call_.relativeRows = relativeRows_.get();
      call_.relativeTable = &table_;
    }
    if (attention.sinks) call_.sinks = add(random.normals(shape.heads, 2));
    if (!attention.qkNorm) return;
    const bool rows = attention.normSpan == QkNormSpan::kRow || attention.normsHeadsApart;
    const auto norm = [&](int64_t heads) {
      std::vector<float> weight = random.normals((rows ? heads : 1) * shape.headDim, 0.2f);
      for (float& value : weight) value += 1;
      const bool biased = attention.qkNorm == NormKind::kLayer;
      const Vector* bias = biased ? add(random.normals(static_cast<int64_t>(weight.size()), 0.2f)) : nullptr;
      return Norm{*attention.qkNorm, 1e-5f, add(weight), bias};
    };
    queryNorm_ = norm(shape.heads);
    keyNorm_ = norm(shape.kvHeads);
    call_.queryNorm = &queryNorm_;
    call_.keyNorm = &keyNorm_;
  }
  OwnedCall(const OwnedCall&) = delete;

  const AttentionCall& forLayer(int64_t layer) {
    call_.layer = layer;
    return call_;
  }
  const std::vector<RotarySpec>& tables() const { return tables_; }
  const RelativeTable& relativeTable() const { return table_; }

 private:
  static RotarySpec rotaryTable(const AttentionCase& attention, int64_t dims, double base) {
    RotarySpec rotary;
    for (int64_t j = 0; j < dims / 2; ++j)
      rotary.inverseFrequencies.push_back(
          static_cast<float>(std::pow(base, -2.0 * static_cast<double>(j) / static_cast<double>(dims))));
    rotary.amplitude = attention.amplitude;
    rotary.dynamicOriginalPositions = attention.dynamicFactor > 0 ? 20 : 0;
    rotary.dynamicBase = base;
    rotary.dynamicFactor = attention.dynamicFactor;
    return rotary;
  }

  AttentionCall call_;
  Norm queryNorm_, keyNorm_;
  RelativeTable table_;
  std::unique_ptr<Activations> relativeRows_;
  std::vector<std::unique_ptr<Vector>> vectors_;
  std::vector<RotarySpec> tables_;
};

// What attends for one case: made for it, with a cache of so many pages and the rows (q | k | v) of all tokens.
class AttentionTarget {
 public:
  virtual ~AttentionTarget() = default;
  // (step.rows, heads * headDim). step.tokenIds say which of the rows.
  virtual std::vector<float> attend(const Step& step, int64_t layer) = 0;
  virtual void copyPages(const std::vector<PageCopy>& copies) = 0;
};

// By a backend's own operations. Rows of generated tokens must be the step's first.
class BackendTarget final : public AttentionTarget {
 public:
  BackendTarget(Backend& backend, DType dtype, const AttentionCase& attention, const std::vector<float>& rows,
                int64_t pages)
      : backend_(backend),
        call_(
            attention,
            [&](const std::vector<float>& values) {
              return backend.makeVector(values.data(), static_cast<int64_t>(values.size()));
            },
            [&](const std::vector<float>& values, int64_t cols) {
              relativeTable_ = makeTable(dtype, values, cols);
              auto made = backend.makeActivations(relativeTable_->rows(), cols, Width::kWide);
              relativeRows_ = made.get();
              return made;
            }) {
    const auto count = static_cast<int64_t>(rows.size()) / attention.columns();
    table_ = makeTable(dtype, rows, attention.columns());
    qkv_ = backend.makeActivations(count, attention.columns(), Width::kNarrow);
    out_ = backend.makeActivations(count, attention.outColumns(), Width::kNarrow);
    cache_ = backend.makeKvCache(attention.layers, pages, attention.shape);
    if (!call_.tables().empty()) backend.prepareRotary(call_.tables(), kMostPositions);
    if (relativeTable_) backend.prepareRelative(call_.relativeTable());
  }

  std::vector<float> attend(const Step& step, int64_t layer) override {
    backend_.runStep(step, [&](const Step& computed) {
      if (relativeTable_) backend_.copyTable(*std::exchange(relativeTable_, nullptr), *relativeRows_);
      backend_.embedTokens(computed, *table_, 0, 1, *qkv_);
      backend_.attend(computed, call_.forLayer(layer), *qkv_, *cache_, *out_);
      return true;
    });
    std::vector<float> out(static_cast<size_t>(step.rows * out_->cols()));
    backend_.readRows(*out_, step.rows, out.data());
    return out;
  }
  void copyPages(const std::vector<PageCopy>& copies) override { backend_.copyPages(copies, *cache_); }

 private:
  std::unique_ptr<Matrix> makeTable(DType dtype, const std::vector<float>& values, int64_t cols) {
    std::vector<uint8_t> stored;
    for (const float value : values) appendStored(dtype, value, stored);
    const auto count = static_cast<int64_t>(values.size()) / cols;
    auto table = backend_.makeMatrix(count, cols, dtype);
    table->write(0, count, stored.data());
    return table;
  }

  Backend& backend_;
  std::unique_ptr<Matrix> relativeTable_;  // until the first step
  Activations* relativeRows_ = nullptr;
  OwnedCall call_;
  std::unique_ptr<Matrix> table_;
  std::unique_ptr<Activations> qkv_, out_;
  std::unique_ptr<KvCache> cache_;
};

// One step's share of one sequence.
struct Piece {
  size_t sequence;
  int64_t rows;
  bool generated = false;
};
using Schedule = std::vector<std::vector<Piece>>;

inline Schedule allAtOnce(const AttentionCase& attention) {
  Schedule schedule(1);
  for (size_t s = 0; s < attention.lengths.size(); ++s) schedule[0].push_back({s, attention.lengths[s]});
  return schedule;
}
inline Schedule oneAfterAnother(const AttentionCase& attention) {
  Schedule schedule;
  for (size_t s = 0; s < attention.lengths.size(); ++s) schedule.push_back({{s, attention.lengths[s]}});
  return schedule;
}
inline Schedule tokenByToken(const AttentionCase& attention) {
  const auto& lengths = attention.lengths;
  Schedule schedule;
  for (int64_t i = 0; i < *std::max_element(lengths.begin(), lengths.end()); ++i) {
    schedule.emplace_back();
    for (size_t s = 0; s < lengths.size(); ++s)
      if (i < lengths[s]) schedule.back().push_back({s, 1});
  }
  return schedule;
}
// All tokens but the last of each sequence, then those.
inline Schedule lastTokenApart(const AttentionCase& attention) {
  Schedule schedule(2);
  for (size_t s = 0; s < attention.lengths.size(); ++s) {
    if (attention.lengths[s] > 1) schedule[0].push_back({s, attention.lengths[s] - 1});
    schedule[1].push_back({s, 1});
  }
  return schedule;
}
// Chunks of any size, of some of the sequences at once; `generated` last tokens of each are generated ones.
inline Schedule chunked(const AttentionCase& attention, Random& random, int64_t most, int64_t generated = 0) {
  std::vector<int64_t> left = attention.lengths;
  Schedule schedule;
  while (std::accumulate(left.begin(), left.end(), int64_t{0}) > 0) {
    std::vector<Piece> first, then;
    for (size_t s = 0; s < left.size(); ++s) {
      if (left[s] == 0 || random.chance(0.3)) continue;
      const bool last = left[s] <= generated;
      const int64_t rows = last ? 1 : random.between(1, std::min(left[s] - generated, most));
      (last ? first : then).push_back({s, rows, last});
      left[s] -= rows;
    }
    first.insert(first.end(), then.begin(), then.end());
    if (!first.empty()) schedule.push_back(first);
  }
  return schedule;
}

// The rows of all sequences' tokens, one sequence after another.
inline std::vector<float> attentionRows(const AttentionCase& attention) {
  const int64_t count = std::accumulate(attention.lengths.begin(), attention.lengths.end(), int64_t{0});
  Random random(static_cast<uint64_t>(count + attention.shape.headDim));
  return random.normals(count * attention.columns());
}

inline int64_t pagesOf(const AttentionCase& attention) {
  int64_t pages = 3;  // more than are used
  for (const int64_t length : attention.lengths) pages += (length + kPageTokens - 1) / kPageTokens;
  return pages;
}

inline std::vector<std::vector<int32_t>> dealPages(const AttentionCase& attention, Random& random) {
  std::vector<int32_t> pages(static_cast<size_t>(pagesOf(attention)));
  std::iota(pages.begin(), pages.end(), 0);
  for (size_t i = pages.size(); i > 1; --i)
    std::swap(pages[i - 1], pages[static_cast<size_t>(random.below(static_cast<int64_t>(i)))]);
  std::vector<std::vector<int32_t>> tables;
  for (const int64_t length : attention.lengths) {
    const auto used = (length + kPageTokens - 1) / kPageTokens;
    tables.emplace_back(pages.end() - used, pages.end());
    pages.resize(pages.size() - static_cast<size_t>(used));
  }
  return tables;
}

// The first page that no sequence has.
inline int32_t sparePage(const std::vector<std::vector<int32_t>>& tables) {
  for (int32_t page = 0;; ++page)
    if (std::none_of(tables.begin(), tables.end(), [page](const std::vector<int32_t>& table) {
          return std::find(table.begin(), table.end(), page) != table.end();
        }))
      return page;
}

// Some pages of the sequences move to others, each into the place of the one that moved before it.
inline std::vector<PageCopy> movePages(std::vector<std::vector<int32_t>>& tables, Random& random, int32_t& spare) {
  std::vector<PageCopy> copies;
  for (int64_t moves = random.below(4); moves > 0; --moves) {
    auto& table = tables[static_cast<size_t>(random.below(static_cast<int64_t>(tables.size())))];
    auto& page = table[static_cast<size_t>(random.below(static_cast<int64_t>(table.size())))];
    copies.push_back({page, spare});
    std::swap(page, spare);
  }
  return copies;
}

enum class Pages { kStay, kMove };

// The outputs of all sequences' tokens, one sequence after another. Pages are dealt in random order, and may move ahead
// of each step.
inline std::vector<float> runAttention(const AttentionCase& attention, AttentionTarget& target,
                                       const Schedule& schedule, uint64_t pageSeed, Pages moving = Pages::kStay) {
  Random random(pageSeed);
  auto pages = dealPages(attention, random);
  int32_t spare = sparePage(pages);
  std::vector<int64_t> done(attention.lengths.size()), starts(attention.lengths.size());
  std::exclusive_scan(attention.lengths.begin(), attention.lengths.end(), starts.begin(), int64_t{0});
  const int64_t all = starts.back() + attention.lengths.back();
  const auto outColumns = static_cast<size_t>(attention.outColumns());
  std::vector<float> results(static_cast<size_t>(all) * outColumns);
  for (const auto& pieces : schedule) {
    if (moving == Pages::kMove) target.copyPages(movePages(pages, random, spare));
    Step step;
    std::vector<int32_t> ids;
    for (const auto& [s, rows, generated] : pieces) {
      step.sequences.push_back({step.rows, rows, done[s], attention.lengths[s], pages[s].data(), generated});
      for (int64_t i = 0; i < rows; ++i) ids.push_back(static_cast<int32_t>(starts[s] + done[s] + i));
      step.rows += rows;
    }
    const int64_t layer = attention.layers - 1;
    if (layer > 0) {
      std::vector<int32_t> others;
      for (const int32_t id : ids) others.push_back(static_cast<int32_t>(all) - 1 - id);
      step.tokenIds = others.data();
      target.attend(step, 0);
    }
    step.tokenIds = ids.data();
    const std::vector<float> out = target.attend(step, layer);
    auto from = out.begin();
    for (const auto& [s, rows, generated] : pieces) {
      const auto count = rows * attention.outColumns();
      std::copy_n(from, count, results.begin() + (starts[s] + done[s]) * attention.outColumns());
      from += count;
      done[s] += rows;
    }
  }
  return results;
}

}  // namespace shardspeed::test
