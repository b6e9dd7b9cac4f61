#pragma once

#include <atomic>
#include <memory>
#include <numeric>
#include <vector>

#include "base/thread_pool.h"
#include "cuda/cuda_backend.h"
#include "device.h"
#include "random.h"
#include "runtime/rank_parts.h"
#include "runtime/sampler.h"
#include "tiny_model.h"

namespace shardspeed::test {

constexpr int64_t kPages = 24;
constexpr int64_t kMostRows = 40;

// Some sequences of one model, each with its own pages.
struct CudaRunner {
  // group: whose rank this is, on cuda:`device`; null = the whole model.
  explicit CudaRunner(TinyModel& model, DType dtype = DType::kF16, int64_t maxRows = kMostRows, Group* group = nullptr,
                      int device = 0, int64_t pages = kPages, DType communicationDtype = DType::kF32)
      : spec(model.spec()), shard(group ? shardOf(spec, group->rank(), group->size()) : wholeModel(spec)) {
    const BackendOptions options{dtype, &pool, maxRows, pages, group, 1, communicationDtype};
    backend = cuda::makeCudaBackend(device, options);
    LoadOptions load;
    load.dtype = dtype;
    load.plan = &model.plan();
    load.shard = shard;
    weights = loadModel(spec, load, *backend, pool);
    RankParts parts = makeRankParts(spec, shard, weights, *backend, {maxRows, spec.maxPositions, pages});
    cache = std::move(parts.cache);
    executor = std::move(parts.executor);
    freePages.resize(static_cast<size_t>(pages));
    std::iota(freePages.rbegin(), freePages.rend(), 0);
  }

  struct Piece {
    size_t sequence;
    std::vector<int32_t> tokens;
    bool generated = false;
    int64_t promptClass = 0;
  };

  // Logits of all rows of a step of these pieces, (rows, vocab); none but on rank 0.
  std::vector<float> step(const std::vector<Piece>& pieces) {
    fill(pieces);
    std::vector<float> logits;
    Executor::Outputs outputs;
    outputs.sink = [&](int64_t, int64_t count, float* values) {
      logits.insert(logits.end(), values, values + count * spec.vocabSize);
    };
    CHECK(executor->run(current, outputs, stop));
    CHECK_EQ(logits.size(), static_cast<size_t>(shard.rank == 0 ? current.rows * spec.vocabSize : 0));
    return logits;
  }

  // The tokens that are likeliest behind each row of a step of these pieces, chosen on the device.
  std::vector<int32_t> likeliest(const std::vector<Piece>& pieces) {
    fill(pieces);
    const Sampler greedy({}, nullptr, 0);
    std::vector<SampledToken> sampled(static_cast<size_t>(current.rows));
    Executor::Outputs outputs;
    outputs.samplers.assign(sampled.size(), &greedy.state());
    outputs.sampled = sampled.data();
    outputs.sink = [](int64_t, int64_t, float*) { FAIL("the device left sampling to the host"); };
    CHECK(executor->run(current, outputs, stop));
    std::vector<int32_t> tokens;
    for (const SampledToken& token : sampled) tokens.push_back(token.token);
    return tokens;
  }

  void fill(const std::vector<Piece>& pieces) {
    current = {};
    tokenIds.clear();
    for (const Piece& piece : pieces) {
      if (piece.sequence >= sequences.size()) sequences.resize(piece.sequence + 1);
      State& state = sequences[piece.sequence];
      const auto rows = static_cast<int64_t>(piece.tokens.size());
      while (static_cast<int64_t>(state.pages.size()) * kPageTokens < state.length + rows) {
        state.pages.push_back(freePages.back());
        freePages.pop_back();
      }
      tokenIds.insert(tokenIds.end(), piece.tokens.begin(), piece.tokens.end());
      SequenceSlice slice;
      slice.firstRow = current.rows;
      slice.rowCount = rows;
      slice.contextLength = state.length;
      slice.totalLength = state.length + rows;
      slice.generated = piece.generated;
      slice.promptClass = piece.promptClass;
      current.sequences.push_back(slice);
      current.rows += rows;
      state.length += rows;
    }
    for (size_t i = 0; i < pieces.size(); ++i) current.sequences[i].pages = sequences[pieces[i].sequence].pages.data();
    current.tokenIds = tokenIds.data();
    current.wantedRows.resize(static_cast<size_t>(current.rows));
    std::iota(current.wantedRows.begin(), current.wantedRows.end(), 0);
  }

  struct State {
    int64_t length = 0;
    std::vector<int32_t> pages;
  };
  ThreadPool pool{1};
  const ModelSpec& spec;
  Shard shard;
  std::unique_ptr<Backend> backend;
  ModelWeights weights;
  std::unique_ptr<KvCache> cache;
  std::unique_ptr<Executor> executor;
  std::vector<int32_t> freePages;
  std::vector<State> sequences;
  std::vector<int32_t> tokenIds;
  Step current;
  std::atomic<bool> stop{false};
};

inline std::vector<int32_t> someTokens(const ModelSpec& spec, int64_t count, uint64_t seed) {
  Random random(seed);
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < count; ++i) tokens.push_back(static_cast<int32_t>(random.below(spec.vocabSize)));
  return tokens;
}

}  // namespace shardspeed::test
