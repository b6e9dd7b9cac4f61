#include "comm/frame.h"

namespace shardspeed {

namespace {

constexpr uint8_t kMark = 0x53;  // first byte of each header, so that other bytes are rarely taken for one

size_t mostBytes(FrameKind kind) {
  switch (kind) {
    case FrameKind::kMessage:
    case FrameKind::kExchange:
      return kMostMessageBytes;
    case FrameKind::kRefused:
    case FrameKind::kFail:
      return kMostReasonBytes;
    default:
      return 0;
  }
}

}  // namespace

HeaderBytes encodeHeader(const FrameHeader& header) {
  HeaderBytes bytes{kMark, static_cast<uint8_t>(header.kind), static_cast<uint8_t>(header.rank),
                    static_cast<uint8_t>(header.rank >> 8)};
  for (size_t i = 0; i < 4; ++i) bytes[4 + i] = static_cast<uint8_t>(header.bytes >> (8 * i));
  return bytes;
}

std::optional<FrameHeader> decodeHeader(const HeaderBytes& bytes) {
  if (bytes[0] != kMark || bytes[1] < static_cast<uint8_t>(FrameKind::kAccepted) ||
      bytes[1] > static_cast<uint8_t>(FrameKind::kHeartbeat))
    return std::nullopt;
  const FrameHeader header{static_cast<FrameKind>(bytes[1]), static_cast<uint16_t>(getNumber(bytes.data() + 2, 2)),
                           static_cast<uint32_t>(getNumber(bytes.data() + 4, 4))};
  if (header.bytes > mostBytes(header.kind)) return std::nullopt;
  return header;
}

std::string oneLine(const std::string& text) {
  std::string line = text.substr(0, kMostReasonBytes);
  // Do not cut a UTF-8 character in two.
  if (text.size() > line.size())
    while (!line.empty() && (static_cast<uint8_t>(text[line.size()]) & 0xc0) == 0x80) line.pop_back();
  for (char& character : line)
    if (static_cast<uint8_t>(character) < 0x20 || character == 0x7f) character = ' ';
  return line;
}

void putNumber(std::vector<uint8_t>& bytes, uint64_t number, size_t width) {
  for (size_t i = 0; i < width; ++i) bytes.push_back(static_cast<uint8_t>(number >> (8 * i)));
}

uint64_t getNumber(const uint8_t* bytes, size_t width) {
  uint64_t number = 0;
  for (size_t i = 0; i < width; ++i) number |= uint64_t{bytes[i]} << (8 * i);
  return number;
}

}  // namespace shardspeed
