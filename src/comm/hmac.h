#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace shardspeed {

using Digest = std::array<uint8_t, 32>;

// SHA-256 (FIPS 180-4), for the little that ranks have to prove to each other: no library is worth linking for it.
class Sha256 {
 public:
  Sha256();
  void update(const void* data, size_t bytes);
  // Once, at the end.
  Digest digest();

 private:
  void block(const uint8_t* bytes);

  std::array<uint32_t, 8> state_;
  std::array<uint8_t, 64> waiting_{};  // the part of a block that has not been filled yet
  uint64_t total_ = 0;
};

// HMAC with SHA-256 (RFC 2104), for keys of any length.
Digest hmacSha256(const void* key, size_t keyBytes, const void* data, size_t bytes);

// In a time that does not tell where the two differ.
bool sameDigest(const Digest& left, const Digest& right);

// Bytes that nobody can guess, of the system. Error("ERR_COMM") where it has none.
void fillRandom(uint8_t* bytes, size_t count);

}  // namespace shardspeed
