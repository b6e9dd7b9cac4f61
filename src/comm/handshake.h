#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "comm/hmac.h"
#include "comm/socket.h"

// How ranks find out that they belong together before anything else is said. Both sides know a key and show it by a MAC
// over numbers that both have drawn; the key itself is never sent. Then:
//   rank -> rank 0   magic, rank, size of the group, nonce                                      (48 bytes)
//   rank 0 -> rank   nonce, MAC(key, "shardspeed rank 0", rank, size, both nonces)              (64 bytes)
//   rank -> rank 0   MAC(key, "shardspeed other", rank, size, both nonces)                      (32 bytes)
//   rank 0 -> rank   frame kAccepted; and when all have come, kReady
// Frames are neither encrypted nor signed: who can change what is on the wire can change them.

namespace shardspeed {

struct Membership {
  int rank;
  int size;
  std::array<uint8_t, 32> key;
};

// Rank 0: waits until all other ranks are connected; their sockets, by rank (that of rank 0 stays closed). Strangers
// are turned away, without an end of the waiting. Throws Error: ERR_COMM where ranks are missing at the end of patience
// or one of them is gone, ERR_ABORTED; then the ranks that have come are told.
std::vector<Descriptor> admitRanks(Descriptor listener, const Membership& self, const Patience& patience);

// The others: the socket to rank 0, once all have come. Tries again where a connection cannot be made yet.
Descriptor joinLeader(const std::string& host, uint16_t port, const Membership& self, const Patience& patience);

// What the two sides send, for tests of strangers.
using Nonce = std::array<uint8_t, 32>;
std::array<uint8_t, 48> helloBytes(int rank, int size, const Nonce& nonce);
Digest proof(const Membership& of, bool leader, const Nonce& leaderNonce, const Nonce& nonce);

}  // namespace shardspeed
