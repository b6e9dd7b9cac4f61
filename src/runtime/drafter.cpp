#include "runtime/drafter.h"

#include "runtime/model_drafter.h"
#include "runtime/prompt_lookup.h"

namespace shardspeed {

namespace {

class LookupDrafter final : public Drafter {
 public:
  LookupDrafter(const LookupOptions& options, int64_t vocab) : options_(options), vocab_(vocab) {}

  int64_t longest() const override { return options_.draftTokens; }
  int64_t makeDrafts(const std::vector<DraftWish>& wishes) override {
    for (const auto& [sequence, most] : wishes) {
      sequence->draft = lookUpDraft(sequence->tokens, options_, most);
      sequence->sampler.keepAllowed(sequence->draft, vocab_);
    }
    return 0;
  }

 private:
  const LookupOptions options_;
  const int64_t vocab_;
};

}  // namespace

std::unique_ptr<Drafter> makeDrafter(const EngineOptions& options, ThreadPool& pool, const std::atomic<bool>& stop) {
  if (options.draftModel) return std::make_unique<ModelDrafter>(*options.draftModel, options.draftTokens, pool, stop);
  if (options.lookup.draftTokens == 0) return nullptr;
  return std::make_unique<LookupDrafter>(options.lookup, options.spec.head().columns);
}

}  // namespace shardspeed
