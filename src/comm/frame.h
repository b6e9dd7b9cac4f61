#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

// What goes over the connection of a rank to rank 0, once both have proved who they are: frames of a header of 8 bytes
// and a payload. Numbers are little-endian.

namespace shardspeed {

enum class FrameKind : uint8_t {
  kAccepted = 1,  // to a rank: it is the one it said it is, and waits for the others now
  kRefused,       // to a rank: it knows the key but cannot take part; text
  kReady,         // to a rank: all have come
  kMessage,       // to a rank: of Group::send()
  kExchange,      // to rank 0: what a rank gives; to a rank: what the rank of the header has given
  kEnd,           // both ways, nothing comes after it
  kFail,          // both ways, nothing comes after it; text
  kHeartbeat,     // both ways
};

// The most that send() and exchange() take of one rank: the room that a frame may claim.
constexpr size_t kMostMessageBytes = size_t{256} << 20;
constexpr size_t kMostReasonBytes = 2000;

struct FrameHeader {
  FrameKind kind;
  uint16_t rank;   // of an exchange: whose bytes these are
  uint32_t bytes;  // of the payload
};

using HeaderBytes = std::array<uint8_t, 8>;

HeaderBytes encodeHeader(const FrameHeader& header);
// None where it is no header, or claims more than its kind may have.
std::optional<FrameHeader> decodeHeader(const HeaderBytes& bytes);

struct Frame {
  FrameHeader header;
  std::vector<uint8_t> payload;
};

// A reason as it goes into a frame and comes out of one: one line, not too long.
std::string oneLine(const std::string& text);

// Fixed-width numbers at the end of a message, and back from its front.
void putNumber(std::vector<uint8_t>& bytes, uint64_t number, size_t width);
uint64_t getNumber(const uint8_t* bytes, size_t width);

}  // namespace shardspeed
