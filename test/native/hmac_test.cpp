#include "comm/hmac.h"

#include <cstdio>
#include <string>
#include <vector>

#include "check.h"

namespace shardspeed::test {

static std::string hex(const Digest& digest) {
  std::string text;
  for (const uint8_t byte : digest) {
    char pair[3];
    std::snprintf(pair, sizeof pair, "%02x", byte);
    text += pair;
  }
  return text;
}

static std::string hashOf(const std::string& text) {
  Sha256 hash;
  hash.update(text.data(), text.size());
  return hex(hash.digest());
}

// The examples of FIPS 180-4 and its companion files.
TEST(hmac, sha256_vectors) {
  CHECK_EQ(hashOf(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK_EQ(hashOf("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK_EQ(hashOf("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
           "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  CHECK_EQ(hashOf(std::string(1000000, 'a')), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

// Around the places where the padding needs a block of its own, and however the bytes come in.
TEST(hmac, pieces_of_any_length) {
  for (size_t length = 0; length < 200; ++length) {
    const std::string text(length, static_cast<char>('a' + length % 26));
    for (const size_t piece : {1, 3, 63, 64, 65}) {
      const Note note("length", length, "piece", piece);
      Sha256 hash;
      for (size_t start = 0; start < length; start += piece)
        hash.update(text.data() + start, std::min(piece, length - start));
      CHECK_EQ(hex(hash.digest()), hashOf(text));
    }
  }
}

// RFC 4231, section 4; of case 5 only the first 16 bytes are given there.
TEST(hmac, vectors_of_rfc_4231) {
  struct Case {
    std::string key, data, expected;
  };
  std::string counting;
  for (char byte = 1; byte <= 25; ++byte) counting += byte;
  const Case cases[] = {
      {std::string(20, '\x0b'), "Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"},
      {"Jefe", "what do ya want for nothing?", "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"},
      {std::string(20, '\xaa'), std::string(50, '\xdd'),
       "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"},
      {counting, std::string(50, '\xcd'), "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b"},
      {std::string(20, '\x0c'), "Test With Truncation", "a3b6167473100ee06e0c796c2955552b"},
      {std::string(131, '\xaa'), "Test Using Larger Than Block-Size Key - Hash Key First",
       "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"},
      {std::string(131, '\xaa'),
       "This is a test using a larger than block-size key and a larger than block-size data. The key needs to be "
       "hashed "
       "before being used by the HMAC algorithm.",
       "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2"},
  };
  for (const Case& of : cases) {
    const std::string found = hex(hmacSha256(of.key.data(), of.key.size(), of.data.data(), of.data.size()));
    CHECK_EQ(found.substr(0, of.expected.size()), of.expected);
  }
}

TEST(hmac, digests_are_compared_in_full) {
  const Digest digest{1, 2, 3};
  CHECK(sameDigest(digest, digest));
  for (size_t i = 0; i < digest.size(); ++i) {
    Digest other = digest;
    other[i] ^= 0x80;
    CHECK(!sameDigest(digest, other));
  }
}

TEST(hmac, random_bytes_differ) {
  std::vector<uint8_t> first(64), second(64);
  fillRandom(first.data(), first.size());
  fillRandom(second.data(), second.size());
  CHECK(first != second);
}

}  // namespace shardspeed::test
