#include "cpu/attention.h"

#include <algorithm>
#include <cmath>

namespace shardspeed {

static_assert(kLanes == kPageTokens, "attention scores a page of tokens in one vector");

namespace {

// Rows up to which one thread prepares all, which is cheaper than to meet once more.
constexpr int64_t kFewRows = 4;

struct Range {
  int64_t first;
  int64_t end;
};

// The keys that a query at `position` sees of a sequence whose tokens [0, known) are in the cache.
Range visibleTo(const AttentionMask& mask, int64_t position, int64_t known) {
  if (const auto* window = std::get_if<WindowMask>(&mask))
    return {std::max<int64_t>(0, position - window->size + 1), position + 1};
  if (const auto* chunk = std::get_if<ChunkMask>(&mask)) return {position - position % chunk->size, position + 1};
  if (const auto* band = std::get_if<BandMask>(&mask))
    return {std::max<int64_t>(0, position - band->size), std::min(known, position + band->size + 1)};
  return {0, std::holds_alternative<FullMask>(mask) ? known : position + 1};
}

}  // namespace

void CpuAttention::prepareRotary(const std::vector<RotarySpec>& tables, int64_t maxPositions) {
  rotary_.clear();
  for (const RotarySpec& table : tables) rotary_.emplace_back(table, maxPositions);
}

void CpuAttention::beginStep() {
  for (RotaryTables& tables : rotary_) tables.forgetDynamic();
}

float* CpuAttention::scratch(int worker, int64_t count) {
  std::vector<float>& buffer = scratch_[static_cast<size_t>(worker)];
  if (static_cast<int64_t>(buffer.size()) < count) buffer.resize(static_cast<size_t>(count));
  return buffer.data();
}

void CpuAttention::placeRows(const Step& step, const AttentionCall& call) {
  const auto* rotary = std::get_if<RotaryPositions>(&call.positions);
  places_.clear();
  for (const SequenceSlice& slice : step.sequences) {
    const RotaryTables::Table* table =
        rotary ? &rotary_[static_cast<size_t>(rotary->table)].forLength(slice.totalLength) : nullptr;
    for (int64_t i = 0; i < slice.rowCount; ++i) places_.push_back({&slice, table, slice.contextLength + i});
  }
}

void CpuAttention::normHeads(const Norm& norm, const AttentionCall& call, int64_t heads, float* x, int worker) {
  const int64_t headDim = call.shape.headDim;
  const int64_t cols = call.normSpan == QkNormSpan::kRow ? heads * headDim : headDim;
  const int64_t padded = roundUp(cols, kLanes);
  // Norms work on whole vectors, which would reach into the neighbours of a head.
  float* own = scratch(worker, 3 * padded);
  const auto vectorOf = [&](const Vector* vector, int64_t at, float* copy) -> const float* {
    if (!vector || !call.normsHeadsApart) return dataOf(vector);
    std::copy_n(dataOf(vector) + at, cols, copy);
    return copy;
  };
  for (int64_t at = 0; at < heads * headDim; at += cols) {
    std::copy_n(x + at, cols, own);
    const float* weight = vectorOf(norm.weight, at, own + padded);
    const float* bias = vectorOf(norm.bias, at, own + 2 * padded);
    kernels_.normRow({norm.kind, norm.epsilon, weight, bias, cols, own, own});
    std::copy_n(own, cols, x + at);
  }
}

// The RMS norm of a row whose heads several ranks hold, by the sum of the squares of all heads.
static void scaleRow(const Norm& norm, float square, int64_t allCols, int64_t cols, float* x) {
  const float scale = 1.0f / std::sqrt(square / static_cast<float>(allCols) + norm.epsilon);
  const float* weight = dataOf(norm.weight);
  const float* bias = dataOf(norm.bias);
  for (int64_t k = 0; k < cols; ++k) x[k] = x[k] * scale * (weight ? weight[k] : 1) + (bias ? bias[k] : 0);
}

void CpuAttention::normRow(const AttentionCall& call, int64_t index, float* row, int worker) {
  const auto& [heads, kvHeads, dim] = call.shape;
  float* keys = row + heads * dim;
  if (call.squares) {
    const float* squares = static_cast<const CpuActivations*>(call.squares)->row(index);
    scaleRow(*call.queryNorm, squares[0], call.allHeads * dim, heads * dim, row);
    scaleRow(*call.keyNorm, squares[1], call.allKvHeads * dim, kvHeads * dim, keys);
    return;
  }
  if (call.queryNorm) normHeads(*call.queryNorm, call, heads, row, worker);
  if (call.keyNorm) normHeads(*call.keyNorm, call, kvHeads, keys, worker);
}

void CpuAttention::squareHeads(const AttentionCall& call, int64_t rows, const CpuActivations& qkv,
                               CpuActivations& squares) {
  const auto& [heads, kvHeads, dim] = call.shape;
  const int64_t queries = heads * dim, keys = call.countsKeys ? kvHeads * dim : 0;
  pool_.forEach(rows, [&](int64_t index, int) {
    const float* row = qkv.row(index);
    const auto sum = [](const float* x, int64_t count) {
      double total = 0;
      for (int64_t k = 0; k < count; ++k) total += static_cast<double>(x[k]) * static_cast<double>(x[k]);
      return static_cast<float>(total);
    };
    float* out = squares.row(index);
    std::fill_n(out, squares.stride(), 0.0f);
    out[0] = sum(row, queries);
    out[1] = sum(row + queries, keys);
  });
}

void CpuAttention::turnRow(const AttentionCall& call, const Place& place, float* row) const {
  if (!place.table) return;
  const auto& [heads, kvHeads, dim] = call.shape;
  const auto& [dims, layout, table] = std::get<RotaryPositions>(call.positions);
  const int64_t at = place.position * dims / 2;
  const float* cosines = place.table->cosines.data() + at;
  const float* sines = place.table->sines.data() + at;
  for (int64_t head = 0; head < heads + kvHeads; ++head) rotateHead(row + head * dim, cosines, sines, dims / 2, layout);
}

// Norms, clamps and turns q and k, and clamps v.
void CpuAttention::prepareRow(const AttentionCall& call, const Place& place, int64_t index, float* row, int worker) {
  const auto& [heads, kvHeads, dim] = call.shape;
  if (!call.normsAfterPositions) normRow(call, index, row, worker);
  if (call.clamp != 0)
    for (int64_t i = 0; i < (heads + 2 * kvHeads) * dim; ++i) row[i] = std::clamp(row[i], -call.clamp, call.clamp);
  turnRow(call, place, row);
  if (call.normsAfterPositions) normRow(call, index, row, worker);
  if (!call.temperature) return;
  const float factor = factorOf(*call.temperature, place.position);
  for (int64_t i = 0; i < heads * dim; ++i) row[i] *= factor;
}

namespace {

// The rows of the table that keys [first, end) have for queries at positions [firstPosition, lastPosition].
Range relativeRows(const RelativeTable& table, int64_t first, int64_t end, int64_t firstPosition,
                   int64_t lastPosition) {
  Range rows{table.rows, 0};
  for (int64_t distance = first - lastPosition; distance < end - firstPosition; ++distance) {
    const int64_t row = table.row(distance);
    rows = {std::min(rows.first, row), std::max(rows.end, row + 1)};
  }
  return rows;
}

}  // namespace

// Floats that scoreDistances() needs for a sequence with so many tokens in the cache: scores of all tokens, the queries
// as a panel, products of rows with these, and with a page of keys.
static int64_t distanceFloats(const AttentionCall& call, int64_t known) {
  return kQueryTile * roundUp(known, kPageTokens) + (call.shape.headDim + 4 * call.relativeTable->rows) * kLanes;
}

// Computes what relative positions add to a tile's scores: a row of numbers for each query, one for each token, which
// the kernel takes for learned scores of distances. A number depends on its query and its key alone. Heads do not share
// keys.
void CpuAttention::scoreDistances(const AttentionCall& call, const Tile& tile, PagedAttention& attention,
                                  float* scratch) const {
  static_assert(kQueryTile <= kLanes, "a tile's queries are one panel");
  const auto& [queries, keys, separate] = std::get<RelativePositions>(call.positions);
  const auto& [heads, kvHeads, dim] = call.shape;
  const RelativeTable& table = *call.relativeTable;
  const auto& relative = static_cast<const CpuActivations&>(*call.relativeRows);
  const int64_t queryAt = tile.kvHead * dim, keyAt = (heads + tile.kvHead) * dim, count = attention.queries;
  const int64_t first = *std::min_element(attention.firsts, attention.firsts + count) / kPageTokens * kPageTokens;
  const int64_t end = roundUp(*std::max_element(attention.limits, attention.limits + count), kPageTokens);
  const int64_t from = attention.positions[0], to = attention.positions[count - 1];
  float* panel = scratch + kQueryTile * end;
  float* ofQueries = panel + dim * kLanes;
  float* ofKeys = ofQueries + 2 * table.rows * kLanes;
  const auto multiply = [&, dim = dim](const float* lanes, Range rows, int64_t column, float* chains) {
    kernels_.panelDot(
        {lanes, DType::kF32, dim, relative.row(rows.first) + column, relative.stride(), rows.end - rows.first, chains});
  };
  const auto productOf = [](const float* chains, Range rows, int64_t row, int64_t lane) {
    const float* chain = chains + 2 * (row - rows.first) * kLanes + lane;
    return chain[0] + chain[kLanes];
  };
  const Range all = relativeRows(table, first, end, from, to);
  if (queries) {
    std::fill_n(panel, dim * kLanes, 0.0f);
    for (int64_t q = 0; q < count; ++q)
      for (int64_t d = 0; d < dim; ++d) panel[d * kLanes + q] = attention.query[q][d];
    multiply(panel, all, keyAt, ofQueries);
  }
  for (int64_t page = first; page < end; page += kPageTokens) {
    const Range rows = relativeRows(table, page, page + kPageTokens, from, to);
    if (keys)
      multiply(attention.cache + attention.pages[page / kPageTokens] * attention.pageStride, rows, queryAt, ofKeys);
    for (int64_t q = 0; q < count; ++q)
      for (int64_t lane = 0; lane < kPageTokens; ++lane) {
        const int64_t row = table.row(page + lane - attention.positions[q]);
        const float ofQuery = queries ? productOf(ofQueries, all, row, q) : 0;
        const float ofKey = keys ? productOf(ofKeys, rows, row, lane) : 0;
        scratch[q * end + page + lane] = call.scale * (ofQuery + ofKey);
      }
  }
  attention.buckets = true;
  for (int64_t q = 0; q < count; ++q) attention.distanceScores[q] = scratch + q * end + attention.positions[q];
}

void CpuAttention::attendTile(const AttentionCall& call, const Tile& tile, CpuActivations& qkv, CpuKvCache& cache,
                              CpuActivations& out, int worker) {
  const AttentionShape& shape = call.shape;
  const int64_t group = shape.heads / shape.kvHeads;
  const SequenceSlice& slice = *tile.slice;
  PagedAttention attention;
  attention.cache = cache.head(call.layer, tile.kvHead);
  attention.pageStride = cache.pageStride();
  attention.pages = slice.pages;
  attention.headDim = shape.headDim;
  attention.headDimPadded = roundUp(shape.headDim, kLanes);
  attention.scale = call.scale;
  attention.softCap = call.softCap;
  attention.alibi = std::holds_alternative<AlibiPositions>(call.positions);
  attention.buckets = call.distanceScores != nullptr;
  attention.sinks = call.sinks != nullptr;
  const int64_t own = 2 * kQueryTile * attention.headDimPadded;
  const int64_t known = slice.contextLength + slice.rowCount;
  attention.scratch = scratch(worker, own + (call.relativeRows ? distanceFloats(call, known) : 0));
  attention.queries = std::min(kQueryTile, slice.rowCount * group - tile.firstQuery);
  for (int64_t q = 0; q < attention.queries; ++q) {
    const int64_t row = (tile.firstQuery + q) / group;
    const int64_t head = tile.kvHead * group + (tile.firstQuery + q) % group;
    const int64_t position = slice.contextLength + row;
    const Range visible = visibleTo(call.mask, position, known);
    attention.query[q] = qkv.row(slice.firstRow + row) + head * shape.headDim;
    attention.firsts[q] = visible.first;
    attention.limits[q] = visible.end;
    attention.positions[q] = position;
    if (attention.alibi) attention.slopes[q] = dataOf(call.slopes)[head];
    if (attention.buckets) attention.distanceScores[q] = dataOf(call.distanceScores) + (2 * head + 1) * call.reach;
    if (attention.sinks) attention.sink[q] = dataOf(call.sinks)[head];
    attention.out[q] = out.row(slice.firstRow + row) + head * shape.headDim;
  }
  if (call.relativeRows) scoreDistances(call, tile, attention, attention.scratch + own);
  kernels_.attend(attention);
}

void CpuAttention::attend(const Step& step, const AttentionCall& call, CpuActivations& qkv, CpuKvCache& cache,
                          CpuActivations& out) {
  const auto& [heads, kvHeads, dim] = call.shape;
  const int64_t padded = roundUp(dim, kLanes);
  const int64_t group = heads / kvHeads;
  placeRows(step, call);
  const auto appendRow = [&, heads = heads, kvHeads = kvHeads, dim = dim](int64_t index, int worker) {
    const Place& place = places_[static_cast<size_t>(index)];
    float* row = qkv.row(index);
    prepareRow(call, place, index, row, worker);
    const int64_t slot = place.position % kPageTokens;
    for (int64_t head = 0; head < kvHeads; ++head) {
      float* keys =
          cache.head(call.layer, head) + place.slice->pages[place.position / kPageTokens] * cache.pageStride();
      const float* key = row + (heads + head) * dim;
      const float* value = row + (heads + kvHeads + head) * dim;
      for (int64_t d = 0; d < dim; ++d) keys[d * kPageTokens + slot] = key[d];
      std::copy_n(value, dim, keys + padded * kPageTokens + slot * padded);
    }
  };
  if (step.rows <= kFewRows)
    for (int64_t row = 0; row < step.rows; ++row) appendRow(row, 0);
  else
    pool_.forEach(step.rows, appendRow);

  tiles_.clear();
  for (const SequenceSlice& slice : step.sequences)
    for (int64_t query = 0; query < slice.rowCount * group; query += kQueryTile)
      for (int64_t head = 0; head < kvHeads; ++head) tiles_.push_back({&slice, head, query});
  // The longest first: they are what the last thread would be waited for.
  const auto count = static_cast<int64_t>(tiles_.size());
  pool_.forEach(count, [&](int64_t index, int worker) {
    attendTile(call, tiles_[static_cast<size_t>(count - 1 - index)], qkv, cache, out, worker);
  });
}

}  // namespace shardspeed
