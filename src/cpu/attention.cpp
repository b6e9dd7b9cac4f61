#include "cpu/attention.h"

#include <algorithm>
#include <atomic>
#include <cmath>

namespace shardspeed {

static_assert(kLanes == kPageTokens, "attention scores a page of tokens in one vector");

namespace {

// Rows up to which one thread prepares all, which is cheaper than to meet once more.
constexpr int64_t kFewRows = 4;

// A thread takes this share of its even part of what is left: one half.
constexpr int64_t kGuide = 2;

// Floats of partial results a thread, beyond which tiles stay whole: one megabyte.
constexpr int64_t kMostPartials = 1 << 18;

// Queries of a tile, the most where that leaves work for all threads.
constexpr int64_t kTileSizes[] = {kQueryTile, kQueryTile / 2, kQueryTile / 4};

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

void CpuAttention::prepareRotary(const std::vector<RotarySpec>& tables) {
  rotary_.clear();
  for (const RotarySpec& table : tables) rotary_.emplace_back(table);
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
    RotaryTables::Table* table =
        rotary ? &rotary_[static_cast<size_t>(rotary->table)].forLength(slice.totalLength) : nullptr;
    if (table) table->prepare(slice.contextLength, slice.contextLength + slice.rowCount);
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
  const float* cosines = place.table->cosines(place.position);
  const float* sines = place.table->sines(place.position);
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

// Queries of a tile that get scores of distances from scoreDistances().
constexpr int64_t kRelativeTile = 6;

// Floats that scoreDistances() needs for a sequence with so many tokens in the cache: scores of all tokens, the queries
// as a panel, products of rows with these, and with a page of keys.
static int64_t distanceFloats(const AttentionCall& call, int64_t known) {
  return kRelativeTile * roundUp(known, kPageTokens) + (call.shape.headDim + 4 * call.relativeTable->rows) * kLanes;
}

// Computes what relative positions add to a tile's scores: a row of numbers for each query, one for each token, which
// the kernel takes for learned scores of distances. A number depends on its query and its key alone. Heads do not share
// keys.
void CpuAttention::scoreDistances(const AttentionCall& call, const Tile& tile, PagedAttention& attention,
                                  float* scratch) const {
  static_assert(kRelativeTile <= kLanes, "a tile's queries are one panel");
  const auto& [queries, keys, separate] = std::get<RelativePositions>(call.positions);
  const auto& [heads, kvHeads, dim] = call.shape;
  const RelativeTable& table = *call.relativeTable;
  const auto& relative = static_cast<const CpuActivations&>(*call.relativeRows);
  const int64_t queryAt = tile.kvHead * dim, keyAt = (heads + tile.kvHead) * dim, count = attention.queries;
  const int64_t first = *std::min_element(attention.firsts, attention.firsts + count) / kPageTokens * kPageTokens;
  const int64_t end = roundUp(*std::max_element(attention.limits, attention.limits + count), kPageTokens);
  const int64_t from = attention.positions[0], to = attention.positions[count - 1];
  float* panel = scratch + kRelativeTile * end;
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

void CpuAttention::addTiles(const Step& step, const AttentionCall& call, int64_t queriesPerTile) {
  const int64_t group = call.shape.heads / call.shape.kvHeads;
  tiles_.clear();
  for (const SequenceSlice& slice : step.sequences) {
    const int64_t known = slice.contextLength + slice.rowCount;
    const int64_t all = slice.rowCount * group;
    for (int64_t query = 0; query < all; query += queriesPerTile) {
      const int64_t count = std::min(queriesPerTile, all - query);
      // What later rows see begins later, and ends later.
      const int64_t firstToken = visibleTo(call.mask, slice.contextLength + query / group, known).first;
      const int64_t endToken = visibleTo(call.mask, slice.contextLength + (query + count - 1) / group, known).end;
      for (int64_t head = 0; head < call.shape.kvHeads; ++head)
        tiles_.push_back({&slice, head, query, count, firstToken, endToken});
    }
  }
}

// Tall tiles read the cache less often, so they are as tall as leaves some pieces for each thread.
void CpuAttention::makeTiles(const Step& step, const AttentionCall& call) {
  if (call.relativeRows) return addTiles(step, call, kRelativeTile);
  for (const int64_t size : kTileSizes) {
    addTiles(step, call, size);
    int64_t ranges = 0;
    for (const Tile& tile : tiles_) ranges += tile.endRange() - tile.firstRange();
    if (pool_.threads() == 1 || ranges >= 2 * kGuide * pool_.threads()) return;
  }
}

// Pieces that shrink towards the end (guided self-scheduling: Polychronopoulos and Kuck 1987), the last tiles first,
// which are a prompt's longest. A tile is divided where it is more than a thread's share of what is left.
void CpuAttention::divideTiles(const AttentionCall& call) {
  const int64_t threads = call.relativeRows ? 1 : pool_.threads();
  int64_t left = 0, partials = 0;
  for (const Tile& tile : tiles_) left += tile.endToken - tile.firstToken;
  pieces_.clear();
  for (auto tile = tiles_.rbegin(); tile != tiles_.rend(); ++tile) {
    const int64_t end = tile->endRange();
    const int64_t floats = (end - tile->firstRange()) * rangeFloats(tile->queries, roundUp(call.shape.headDim, kLanes));
    const bool whole = threads == 1 || partials + floats > kMostPartials * threads;
    for (int64_t range = tile->firstRange(); range < end; ++tile->pieces) {
      const int64_t share = std::max(kRangeTokens, left / (kGuide * threads));
      const int64_t first = std::max(range * kRangeTokens, tile->firstToken);
      const int64_t cut = std::max(range + 1, (first + share) / kRangeTokens);
      const int64_t next = whole || tile->endToken - first <= share ? end : std::min(end, cut);
      pieces_.push_back({&*tile, range, next});
      left -= std::min(next * kRangeTokens, tile->endToken) - first;
      range = next;
    }
    if (tile->pieces == 1) continue;
    tile->partials = partials;
    partials += floats;
  }
  if (static_cast<int64_t>(partials_.size()) < partials) partials_.resize(static_cast<size_t>(partials));
}

void CpuAttention::attendPiece(const AttentionCall& call, const Piece& piece, CpuActivations& qkv, CpuKvCache& cache,
                               CpuActivations& out, int worker) {
  const AttentionShape& shape = call.shape;
  const int64_t group = shape.heads / shape.kvHeads;
  Tile& tile = *piece.tile;
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
  attention.queries = tile.queries;
  attention.firstRange = piece.firstRange;
  attention.endRange = piece.endRange;
  const int64_t own = attentionScratch(tile.queries, attention.headDimPadded);
  const int64_t known = slice.contextLength + slice.rowCount;
  attention.scratch = scratch(worker, own + (call.relativeRows ? distanceFloats(call, known) : 0));
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
  if (tile.partials < 0) return kernels_.attend(attention);
  float* partials = partials_.data() + tile.partials;
  const int64_t before = piece.firstRange - tile.firstRange();
  attention.partials = partials + before * rangeFloats(tile.queries, attention.headDimPadded);
  kernels_.attend(attention);
  if (std::atomic_ref(tile.pieces).fetch_sub(1, std::memory_order_acq_rel) > 1) return;
  attention.firstRange = tile.firstRange();
  attention.endRange = tile.endRange();
  attention.partials = partials;
  kernels_.mergeRanges(attention);
}

void CpuAttention::attend(const Step& step, const AttentionCall& call, CpuActivations& qkv, CpuKvCache& cache,
                          CpuActivations& out) {
  const auto& [heads, kvHeads, dim] = call.shape;
  const int64_t padded = roundUp(dim, kLanes);
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

  makeTiles(step, call);
  divideTiles(call);
  pool_.forEach(static_cast<int64_t>(pieces_.size()), [&](int64_t index, int worker) {
    attendPiece(call, pieces_[static_cast<size_t>(index)], qkv, cache, out, worker);
  });
}

}  // namespace shardspeed
