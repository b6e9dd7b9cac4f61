#pragma once

#include <bitset>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace shardspeed::grammar {

// The texts of a vocabulary's tokens as a tree of bytes, in depth-first order.
class TokenTrie {
 public:
  struct Node {
    uint8_t byte;
    uint16_t depth;  // 1 for first bytes
    int32_t end;     // the index behind its last descendant
    int32_t tokens;  // its tokens are those from here to that of the next node
  };

  // texts[i] are the bytes of token i; empty where it stands for no text: special tokens, and ids without a token.
  // endTokens end a text. They are no text even if they have bytes.
  TokenTrie(const std::vector<std::string>& texts, std::vector<int32_t> endTokens);

  // (count + 1): the last one only ends the tokens before it.
  const std::vector<Node>& nodes() const { return nodes_; }
  int32_t count() const { return static_cast<int32_t>(nodes_.size()) - 1; }
  const std::vector<int32_t>& tokens() const { return tokens_; }
  const std::vector<int32_t>& endTokens() const { return endTokens_; }
  std::string_view text(int32_t token) const;
  bool ends(int32_t token) const;
  int64_t vocab() const { return static_cast<int64_t>(texts_.size()); }
  int64_t words() const { return (vocab() + 31) / 32; }
  // Bytes that are the text of a token.
  const std::bitset<256>& spelled() const { return spelled_; }

 private:
  std::vector<std::string> texts_;
  std::vector<int32_t> endTokens_;
  std::vector<Node> nodes_;
  std::vector<int32_t> tokens_;
  std::bitset<256> spelled_;
};

}  // namespace shardspeed::grammar
