#include "runtime/prompt_lookup.h"

#include <algorithm>

namespace shardspeed {

std::vector<int32_t> lookUpDraft(const std::vector<int32_t>& tokens, const LookupOptions& options, int64_t most) {
  const auto length = static_cast<int64_t>(tokens.size());
  int64_t best = options.minMatch - 1, bestEnd = 0;
  // end: behind the last token of an occurrence. One token at a time is compared first, which rarely agrees.
  for (int64_t end = length - 1; end > best && best < options.maxMatch; --end) {
    if (tokens[static_cast<size_t>(end - 1)] != tokens.back()) continue;
    const int64_t limit = std::min(options.maxMatch, end);
    int64_t agreeing = 1;
    while (agreeing < limit &&
           tokens[static_cast<size_t>(end - 1 - agreeing)] == tokens[static_cast<size_t>(length - 1 - agreeing)])
      ++agreeing;
    if (agreeing <= best) continue;
    best = agreeing;
    bestEnd = end;
  }
  if (bestEnd == 0) return {};
  const int64_t period = length - bestEnd;
  std::vector<int32_t> draft(tokens.begin() + bestEnd, tokens.begin() + bestEnd + std::min(most, period));
  // Behind the end the draft itself goes on.
  for (int64_t i = period; i < most; ++i) draft.push_back(draft[static_cast<size_t>(i - period)]);
  return draft;
}

}  // namespace shardspeed
