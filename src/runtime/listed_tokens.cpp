#include "runtime/listed_tokens.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "token_mask.h"

namespace shardspeed {

ListedTokens::ListedTokens(int64_t vocab, const std::vector<int32_t>& allowed,
                           std::vector<std::vector<int32_t>> badWords, const std::vector<int32_t>& prompt) {
  auto lists = std::make_shared<Lists>();
  lists->restricts = !allowed.empty();
  lists->mask.assign(static_cast<size_t>(maskWords(vocab)), allowed.empty() ? -1 : 0);
  for (const int32_t token : allowed) allow(lists->mask.data(), token);
  size_t longest = 1;
  for (std::vector<int32_t>& word : badWords) {
    longest = std::max(longest, word.size());
    if (word.size() > 1) {
      lists->longerWords.push_back(std::move(word));
    } else {
      lists->restricts = true;
      forbid(lists->mask.data(), word[0]);
    }
  }
  const size_t kept = std::min(prompt.size(), longest - 1);
  history_.assign(prompt.end() - static_cast<std::ptrdiff_t>(kept), prompt.end());
  lists_ = std::move(lists);
}

// Whether all tokens of the word but its last one have just come.
bool ListedTokens::ends(const std::vector<int32_t>& word) const {
  const size_t begun = word.size() - 1;
  return history_.size() >= begun &&
         std::equal(word.begin(), word.end() - 1, history_.end() - static_cast<std::ptrdiff_t>(begun));
}

bool ListedTokens::fill(int32_t* mask) {
  bool restricts = lists_->restricts;
  if (restricts) std::copy(lists_->mask.begin(), lists_->mask.end(), mask);
  for (const std::vector<int32_t>& word : lists_->longerWords) {
    if (!ends(word)) continue;
    if (!restricts) std::copy(lists_->mask.begin(), lists_->mask.end(), mask);
    restricts = true;
    forbid(mask, word.back());
  }
  return restricts;
}

void ListedTokens::rollback(int64_t tokens) {
  history_.resize(history_.size() - static_cast<size_t>(tokens));
}

}  // namespace shardspeed
