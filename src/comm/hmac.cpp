#include "comm/hmac.h"

#include <sys/random.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>

#include "base/error.h"

namespace shardspeed {

namespace {

constexpr bool isPrime(uint32_t number) {
  for (uint32_t divisor = 2; divisor * divisor <= number; ++divisor)
    if (number % divisor == 0) return false;
  return number > 1;
}

// SHA-256's constants are defined as the first 32 bits behind the point of the square roots (initial state) and cube
// roots (rounds) of the first primes. Computed from that definition, when this is compiled, none can be mistyped.
__extension__ using Wide = unsigned __int128;

constexpr uint32_t rootFraction(uint32_t prime, int degree) {
  // The largest root with root^degree <= prime * 2^(32 degree): bits of the root below 2^32 are behind the point.
  const Wide wanted = Wide{prime} << (32 * degree);
  uint64_t root = 0;
  for (uint64_t bit = 1ull << 37; bit > 0; bit >>= 1) {
    const Wide next = root | bit;
    const Wide power = degree == 2 ? next * next : next * next * next;
    if (power <= wanted) root |= bit;
  }
  return static_cast<uint32_t>(root);
}

template <size_t kCount>
constexpr std::array<uint32_t, kCount> rootFractions(int degree) {
  std::array<uint32_t, kCount> fractions{};
  uint32_t prime = 1;
  for (uint32_t& fraction : fractions) {
    do ++prime;
    while (!isPrime(prime));
    fraction = rootFraction(prime, degree);
  }
  return fractions;
}

constexpr std::array<uint32_t, 8> kInitial = rootFractions<8>(2);
constexpr std::array<uint32_t, 64> kRounds = rootFractions<64>(3);

uint32_t bigEndian(const uint8_t* bytes) {
  return uint32_t{bytes[0]} << 24 | uint32_t{bytes[1]} << 16 | uint32_t{bytes[2]} << 8 | bytes[3];
}

}  // namespace

Sha256::Sha256() : state_(kInitial) {}

void Sha256::block(const uint8_t* bytes) {
  std::array<uint32_t, 64> words;
  for (size_t i = 0; i < 16; ++i) words[i] = bigEndian(bytes + 4 * i);
  for (size_t i = 16; i < 64; ++i) {
    const uint32_t early = words[i - 15], late = words[i - 2];
    words[i] = words[i - 16] + (std::rotr(early, 7) ^ std::rotr(early, 18) ^ (early >> 3)) + words[i - 7] +
               (std::rotr(late, 17) ^ std::rotr(late, 19) ^ (late >> 10));
  }
  auto [a, b, c, d, e, f, g, h] = state_;
  for (size_t i = 0; i < 64; ++i) {
    const uint32_t first =
        h + (std::rotr(e, 6) ^ std::rotr(e, 11) ^ std::rotr(e, 25)) + ((e & f) ^ (~e & g)) + kRounds[i] + words[i];
    const uint32_t second = (std::rotr(a, 2) ^ std::rotr(a, 13) ^ std::rotr(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
    h = g, g = f, f = e, e = d + first;
    d = c, c = b, b = a, a = first + second;
  }
  const std::array<uint32_t, 8> added{a, b, c, d, e, f, g, h};
  for (size_t i = 0; i < 8; ++i) state_[i] += added[i];
}

void Sha256::update(const void* data, size_t bytes) {
  const auto* from = static_cast<const uint8_t*>(data);
  while (bytes > 0) {
    const size_t filled = total_ % 64, taken = std::min(bytes, 64 - filled);
    std::memcpy(waiting_.data() + filled, from, taken);
    from += taken, bytes -= taken, total_ += taken;
    if (total_ % 64 == 0) block(waiting_.data());
  }
}

Digest Sha256::digest() {
  const uint64_t bits = total_ * 8;
  static constexpr std::array<uint8_t, 64> kPadding{0x80};
  const size_t filled = total_ % 64;
  update(kPadding.data(), filled < 56 ? 56 - filled : 120 - filled);
  std::array<uint8_t, 8> length;
  for (size_t i = 0; i < 8; ++i) length[i] = static_cast<uint8_t>(bits >> (56 - 8 * i));
  update(length.data(), length.size());
  Digest digest;
  for (size_t i = 0; i < digest.size(); ++i) digest[i] = static_cast<uint8_t>(state_[i / 4] >> (24 - 8 * (i % 4)));
  return digest;
}

Digest hmacSha256(const void* key, size_t keyBytes, const void* data, size_t bytes) {
  std::array<uint8_t, 64> inner{};
  if (keyBytes > inner.size()) {
    Sha256 shortened;
    shortened.update(key, keyBytes);
    const Digest digest = shortened.digest();
    std::copy(digest.begin(), digest.end(), inner.begin());
  } else if (keyBytes > 0) {
    std::memcpy(inner.data(), key, keyBytes);
  }
  std::array<uint8_t, 64> outer = inner;
  for (uint8_t& byte : inner) byte ^= 0x36;
  for (uint8_t& byte : outer) byte ^= 0x5c;
  Sha256 first, second;
  first.update(inner.data(), inner.size());
  first.update(data, bytes);
  const Digest digest = first.digest();
  second.update(outer.data(), outer.size());
  second.update(digest.data(), digest.size());
  return second.digest();
}

bool sameDigest(const Digest& left, const Digest& right) {
  // Volatile: a compiler that knew the purpose of the loop could leave it at the first difference.
  volatile uint8_t difference = 0;
  for (size_t i = 0; i < left.size(); ++i) difference = difference | (left[i] ^ right[i]);
  return difference == 0;
}

void fillRandom(uint8_t* bytes, size_t count) {
  while (count > 0) {
    const ssize_t got = getrandom(bytes, count, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) throw Error("ERR_COMM", std::string("the system gives no random bytes: ") + std::strerror(errno));
    bytes += got, count -= static_cast<size_t>(got);
  }
}

}  // namespace shardspeed
