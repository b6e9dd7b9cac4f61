#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "comm/hmac.h"
#include "comm/socket.h"

// The handshake by which ranks prove that they belong to one group. Both sides know a key, and prove it by a MAC over
// random numbers (nonces) of both; the key itself is never sent. The messages:
//   rank -> rank 0   magic, rank, size of the group, nonce                                      (48 bytes)
//   rank 0 -> rank   nonce, MAC(key, "shardspeed rank 0", rank, size, both nonces)              (64 bytes)
//   rank -> rank 0   MAC(key, "shardspeed other", rank, size, both nonces)                      (32 bytes)
//   rank 0 -> rank   frame kAccepted; and when all have come, kReady
// Frames after that are neither encrypted nor signed: an attacker who can change traffic on the network can change
// them.

namespace shardspeed {

struct Membership {
  int rank;
  int size;
  std::array<uint8_t, 32> key;
};

// Rank 0: waits until all other ranks are connected, and returns their sockets by rank (that of rank 0 stays closed).
// Turns away connections that do not know the key, and goes on waiting. Throws Error: ERR_COMM if ranks are missing
// when patience ends or if one has gone, ERR_ABORTED. The ranks that have come are told why.
std::vector<Descriptor> admitRanks(Descriptor listener, const Membership& self, const Patience& patience);

// The others: returns the socket to rank 0 when all ranks have come. Tries again if a connection cannot be made yet.
Descriptor joinLeader(const std::string& host, uint16_t port, const Membership& self, const Patience& patience);

// Parts of the messages, for tests that play a stranger.
using Nonce = std::array<uint8_t, 32>;
std::array<uint8_t, 48> helloBytes(int rank, int size, const Nonce& nonce);
Digest proof(const Membership& of, bool leader, const Nonce& leaderNonce, const Nonce& nonce);

}  // namespace shardspeed
