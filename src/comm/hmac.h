#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace shardspeed {

using Digest = std::array<uint8_t, 32>;

// SHA-256 (FIPS 180-4). Ranks hash a few hundred bytes for their handshake, which does not justify linking a library.
class Sha256 {
 public:
  Sha256();
  void update(const void* data, size_t bytes);
  // Call it once, at the end.
  Digest digest();

 private:
  void block(const uint8_t* bytes);

  std::array<uint32_t, 8> state_;
  std::array<uint8_t, 64> waiting_{};  // a block that is not full yet
  uint64_t total_ = 0;
};

// HMAC with SHA-256 (RFC 2104), for keys of any length.
Digest hmacSha256(const void* key, size_t keyBytes, const void* data, size_t bytes);

// Compares in constant time, which does not tell where the two differ.
bool sameDigest(const Digest& left, const Digest& right);

// Fills in random bytes of the system that nobody can guess. Throws Error("ERR_COMM") if it has none.
void fillRandom(uint8_t* bytes, size_t count);

}  // namespace shardspeed
