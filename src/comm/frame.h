#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

// Frames: the messages on the connection between a rank and rank 0, after both have proved that they know the key. A
// frame is a header of 8 bytes and a payload. Numbers are little-endian.

namespace shardspeed {

enum class FrameKind : uint8_t {
  kAccepted = 1,  // to a rank: it is admitted, and waits for the others now
  kRefused,       // to a rank: it knows the key but cannot take part; text
  kReady,         // to a rank: all have come
  kMessage,       // to a rank: of Group::send()
  kExchange,      // to rank 0: a rank's part; to a rank: the part of the rank in the header
  kEnd,           // both ways, nothing comes after it
  kFail,          // both ways, nothing comes after it; text
  kHeartbeat,     // both ways
};

// Largest message of send() and exchange(), and so the largest payload that a header may announce.
constexpr size_t kMostMessageBytes = size_t{256} << 20;
constexpr size_t kMostReasonBytes = 2000;

struct FrameHeader {
  FrameKind kind;
  uint16_t rank;   // of an exchange: whose bytes these are
  uint32_t bytes;  // of the payload
};

using HeaderBytes = std::array<uint8_t, 8>;

HeaderBytes encodeHeader(const FrameHeader& header);
// Nothing if the bytes are no header, or announce more than a frame of this kind may have.
std::optional<FrameHeader> decodeHeader(const HeaderBytes& bytes);

struct Frame {
  FrameHeader header;
  std::vector<uint8_t> payload;
};

// Makes a reason for a frame, or one that came in a frame, a single line of limited length.
std::string oneLine(const std::string& text);

// Appends a number of fixed width to a message; reads one from its front.
void putNumber(std::vector<uint8_t>& bytes, uint64_t number, size_t width);
uint64_t getNumber(const uint8_t* bytes, size_t width);

}  // namespace shardspeed
