#include "grammar/token_trie.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "base/error.h"

namespace shardspeed::grammar {

TokenTrie::TokenTrie(const std::vector<std::string>& texts, std::vector<int32_t> endTokens)
    : texts_(texts), endTokens_(std::move(endTokens)) {
  for (const int32_t token : endTokens_) {
    if (token < 0 || token >= vocab()) throw Error("ERR_NATIVE", "an end token is not of the vocabulary");
    texts_[static_cast<size_t>(token)].clear();
  }
  std::vector<int32_t> order;
  for (int32_t token = 0; token < vocab(); ++token) {
    const std::string& text = texts_[static_cast<size_t>(token)];
    // Longer ones, of spaces or dashes, are left out: text can be spelled without them.
    if (!text.empty() && text.size() <= std::numeric_limits<uint16_t>::max()) order.push_back(token);
    if (text.size() == 1) spelled_[static_cast<uint8_t>(text[0])] = true;
  }
  std::sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    const int compared = texts_[static_cast<size_t>(a)].compare(texts_[static_cast<size_t>(b)]);
    return compared == 0 ? a < b : compared < 0;
  });
  std::vector<int32_t> open;  // the way to the last text
  std::string_view last;
  const auto close = [&](size_t depth) {
    for (; open.size() > depth; open.pop_back())
      nodes_[static_cast<size_t>(open.back())].end = static_cast<int32_t>(nodes_.size());
  };
  for (const int32_t token : order) {
    const std::string_view text = texts_[static_cast<size_t>(token)];
    const auto [place, end] = std::mismatch(text.begin(), text.end(), last.begin(), last.end());
    close(static_cast<size_t>(place - text.begin()));
    for (auto byte = place; byte != text.end(); ++byte) {
      open.push_back(static_cast<int32_t>(nodes_.size()));
      nodes_.push_back(
          {static_cast<uint8_t>(*byte), static_cast<uint16_t>(open.size()), 0, static_cast<int32_t>(tokens_.size())});
    }
    tokens_.push_back(token);
    last = text;
  }
  close(0);
  nodes_.push_back({0, 0, static_cast<int32_t>(nodes_.size()), static_cast<int32_t>(tokens_.size())});
}

std::string_view TokenTrie::text(int32_t token) const {
  if (token < 0 || token >= vocab()) return {};
  return texts_[static_cast<size_t>(token)];
}

bool TokenTrie::ends(int32_t token) const {
  return std::find(endTokens_.begin(), endTokens_.end(), token) != endTokens_.end();
}

}  // namespace shardspeed::grammar
