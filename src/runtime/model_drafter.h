#pragma once

#include <map>

#include "runtime/drafter.h"
#include "runtime/page_pool.h"

namespace shardspeed {

// Drafts by a smaller model of the same vocabulary (Leviathan et al., 2023), which is computed by this rank alone, in
// the CPU's threads. It chooses tokens as the sequence would, with the same parameters, seed and positions, so that
// sampled text is guessed too. Its KV cache follows the sequences: of what is there, the part that agrees with a
// sequence stays.
class ModelDrafter final : public Drafter {
 public:
  // Loads the model. All arguments outlive it.
  ModelDrafter(const EngineOptions& options, int64_t draftTokens, ThreadPool& pool, const std::atomic<bool>& stop);

  int64_t longest() const override { return draftTokens_; }
  int64_t makeDrafts(const std::vector<DraftWish>& wishes) override;
  void forget(int64_t id) override;
  RankMemory memory() const override { return rank_.memory().front(); }

 private:
  // A sequence as the draft model knows it.
  struct Text {
    std::vector<int32_t> tokens;  // in the KV cache
    std::vector<int32_t> pages;
    int64_t round = 0;  // in which it was last used
  };
  // A sequence whose draft is being made.
  struct Turn {
    Sequence* sequence;
    Text* text;
    int64_t most;
    Sampler sampler;  // as it is behind the draft
    bool over = false;

    int64_t length() const { return sequence->length() + static_cast<int64_t>(sequence->draft.size()); }
    int64_t pending() const { return length() - static_cast<int64_t>(text->tokens.size()); }
  };

  bool isInReach(const DraftWish& wish) const;
  Text& follow(const Sequence& sequence);
  bool computeStep();
  void addSlice(Turn& turn, int64_t rows);
  bool reserve(Text& text, int64_t tokens);
  void release(Text& text);

  const EngineOptions& options_;
  const int64_t draftTokens_;
  Rank rank_;
  PagePool pages_;
  std::map<int64_t, Text> texts_;  // by the id of their sequence
  int64_t round_ = 0;
  std::vector<Turn> turns_;
  // Of a step: its rows, and whose they are that a token is chosen by.
  Step step_;
  std::vector<int32_t> tokenIds_;
  std::vector<int32_t> tokenTypes_;
  std::vector<Turn*> wanted_;
  bool readsPrompts_ = false;
};

}  // namespace shardspeed
