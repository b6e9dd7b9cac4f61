#pragma once

#include <vector>

#include "backend.h"
#include "base/thread_pool.h"
#include "cpu/kernels.h"
#include "cpu/rotary.h"
#include "cpu/tensors.h"

namespace shardspeed {

// Attention of the CPU backend: prepares queries, keys and values, stores the latter in their pages, and divides the
// work over threads: in tiles of queries, and where these are too few in ranges of the tokens that a tile sees
// (kRangeTokens), whose results the last thread merges. A row's bits depend on what it sees alone.
class CpuAttention {
 public:
  CpuAttention(ThreadPool& pool, const KernelTable& kernels)
      : pool_(pool), kernels_(kernels), scratch_(static_cast<size_t>(pool.threads())) {}

  void prepareRotary(const std::vector<RotarySpec>& tables);
  // Drops what only the last step needed.
  void beginStep();
  // Backend::squareHeads
  void squareHeads(const AttentionCall& call, int64_t rows, const CpuActivations& qkv, CpuActivations& squares);
  void attend(const Step& step, const AttentionCall& call, CpuActivations& qkv, CpuKvCache& cache, CpuActivations& out);

 private:
  // Where a row of the step stands.
  struct Place {
    const SequenceSlice* slice;
    const RotaryTables::Table* table;  // null where positions are not rotary
    int64_t position;
  };
  // Some query heads of one KV head, of one row or of several.
  struct Tile {
    const SequenceSlice* slice;
    int64_t kvHead;
    int64_t firstQuery;  // queries of a KV head are numbered row * group + head
    int64_t queries;
    int64_t firstToken;  // that one of them sees
    int64_t endToken;
    int64_t partials = -1;  // where in partials_ its ranges' results are; -1: one piece computes all ranges
    int64_t pieces = 0;     // not computed yet
    int64_t firstRange() const { return firstToken / kRangeTokens; }
    int64_t endRange() const { return (endToken + kRangeTokens - 1) / kRangeTokens; }
  };
  // Some ranges of a tile.
  struct Piece {
    Tile* tile;
    int64_t firstRange;
    int64_t endRange;
  };

  void placeRows(const Step& step, const AttentionCall& call);
  void prepareRow(const AttentionCall& call, const Place& place, int64_t index, float* row, int worker);
  void turnRow(const AttentionCall& call, const Place& place, float* row) const;
  void normRow(const AttentionCall& call, int64_t index, float* row, int worker);
  void normHeads(const Norm& norm, const AttentionCall& call, int64_t heads, float* x, int worker);
  void makeTiles(const Step& step, const AttentionCall& call);
  void addTiles(const Step& step, const AttentionCall& call, int64_t queriesPerTile);
  void divideTiles(const AttentionCall& call);
  void attendPiece(const AttentionCall& call, const Piece& piece, CpuActivations& qkv, CpuKvCache& cache,
                   CpuActivations& out, int worker);
  void scoreDistances(const AttentionCall& call, const Tile& tile, PagedAttention& attention, float* scratch) const;
  float* scratch(int worker, int64_t count);

  ThreadPool& pool_;
  const KernelTable& kernels_;
  std::vector<RotaryTables> rotary_;
  std::vector<Place> places_;                // (rows) of the step
  std::vector<Tile> tiles_;                  // of the step
  std::vector<Piece> pieces_;                // of the step
  std::vector<float> partials_;              // results of ranges, grown as steps ask for them
  std::vector<std::vector<float>> scratch_;  // one a worker, grown as steps ask for it
};

}  // namespace shardspeed
