#include "base/half.h"

#include <cmath>
#include <limits>

#include "check.h"
#include "random.h"

namespace shardspeed::test {

// The value of a half by its definition, without bit tricks.
static double halfValue(uint16_t half) {
  const int exponent = (half >> 10) & 31;
  const int fraction = half & 1023;
  const double magnitude = exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
  return (half & 0x8000) ? -magnitude : magnitude;
}

// The finite half nearest to a value, ties to the even one, by search: halves of one sign are ordered like their bits.
static uint16_t nearestHalf(double value) {
  const auto sign = static_cast<uint16_t>(std::signbit(value) ? 0x8000 : 0);
  const double magnitude = std::abs(value);
  if (magnitude >= 65520) return static_cast<uint16_t>(sign | 0x7c00);
  uint16_t low = 0, high = 0x7c00;  // low <= value < high, where 0x7c00 stands for 65536
  while (high - low > 1) {
    const auto middle = static_cast<uint16_t>((low + high) / 2);
    (halfValue(middle) <= magnitude ? low : high) = middle;
  }
  const double below = magnitude - halfValue(low);
  const double above = (high == 0x7c00 ? 65536.0 : halfValue(high)) - magnitude;
  const bool up = above < below || (above == below && (low & 1));
  return static_cast<uint16_t>(sign | (up ? high : low));
}

TEST(half, every_half_has_its_value_and_comes_back) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const Note note("half bits", bits);
    const auto half = static_cast<uint16_t>(bits);
    const float value = halfToFloat(half);
    if ((bits & 0x7fff) > 0x7c00) {
      CHECK(std::isnan(value));
      CHECK((floatToHalf(value) & 0x7fff) > 0x7c00);
      CHECK_EQ(std::signbit(value), (bits & 0x8000) != 0);
      continue;
    }
    if ((bits & 0x7fff) == 0x7c00)
      CHECK_EQ(value, (bits & 0x8000 ? -1 : 1) * std::numeric_limits<float>::infinity());
    else
      CHECK_EQ(static_cast<double>(value), halfValue(half));
    CHECK_EQ(std::signbit(value), (bits & 0x8000) != 0);
    CHECK_EQ(floatToHalf(value), half);
  }
}

// Between each two neighbours: the middle, and the floats on both sides of it.
TEST(half, rounds_to_nearest_even) {
  for (uint16_t bits = 0; bits < 0x7c00; ++bits) {
    const double next = bits + 1 == 0x7c00 ? 65536.0 : halfValue(static_cast<uint16_t>(bits + 1));
    const auto middle = static_cast<float>((halfValue(bits) + next) / 2);
    for (const float value : {middle, std::nextafter(middle, 0.0f), std::nextafter(middle, 1e9f)}) {
      const Note note("value", value);
      CHECK_EQ(floatToHalf(value), nearestHalf(value));
      CHECK_EQ(floatToHalf(-value), nearestHalf(-static_cast<double>(value)));
    }
  }
}

TEST(half, random_floats_round_as_their_definition_says) {
  Random random(1);
  for (int i = 0; i < (kReduced ? 20000 : 300000); ++i) {
    // All bit patterns, then those around the range of halves.
    auto bits = static_cast<uint32_t>(random.bits());
    if (i % 2) bits = (bits & 0x807fffff) | ((100 + static_cast<uint32_t>(random.below(48))) << 23);
    const float value = bitsToFloat(bits);
    const Note note("float bits", bits);
    if (std::isnan(value))
      CHECK((floatToHalf(value) & 0x7fff) > 0x7c00);
    else
      CHECK_EQ(floatToHalf(value), nearestHalf(value));
#ifdef __FLT16_MANT_DIG__
    if (!std::isnan(value)) {
      const auto compilers = static_cast<_Float16>(value);
      uint16_t expected;
      std::memcpy(&expected, &compilers, sizeof expected);
      CHECK_EQ(floatToHalf(value), expected);
    }
#endif
  }
}

TEST(half, overflow_and_tiny_values) {
  CHECK_EQ(floatToHalf(65504.0f), 0x7bff);
  CHECK_EQ(floatToHalf(65519.996f), 0x7bff);
  CHECK_EQ(floatToHalf(65520.0f), 0x7c00);
  CHECK_EQ(floatToHalf(-1e30f), 0xfc00);
  CHECK_EQ(floatToHalf(std::numeric_limits<float>::infinity()), 0x7c00);
  CHECK_EQ(floatToHalf(0x1p-24f), 1);
  CHECK_EQ(floatToHalf(0x1p-25f), 0);  // a tie: zero is even
  CHECK_EQ(floatToHalf(std::nextafter(0x1p-25f, 1.0f)), 1);
  CHECK_EQ(floatToHalf(0x1.8p-24f), 2);  // a tie: two is even
  CHECK_EQ(floatToHalf(-0.0f), 0x8000);
  CHECK_EQ(floatToHalf(std::numeric_limits<float>::denorm_min()), 0);
}

TEST(half, every_bfloat16_comes_back) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const Note note("bfloat16 bits", bits);
    const float value = bfloat16ToFloat(static_cast<uint16_t>(bits));
    CHECK_EQ(floatToBits(value), bits << 16);
    if (std::isnan(value))
      CHECK(std::isnan(bfloat16ToFloat(floatToBfloat16(value))));
    else
      CHECK_EQ(floatToBfloat16(value), bits);
  }
}

TEST(half, bfloat16_rounds_to_nearest_even) {
  for (uint32_t high = 0; high < 0x7f80; ++high) {
    for (const uint32_t low : {0x0001u, 0x7fffu, 0x8000u, 0x8001u, 0xffffu}) {
      const Note note("float bits", (high << 16) | low);
      const uint32_t expected = high + (low > 0x8000 || (low == 0x8000 && (high & 1)) ? 1 : 0);
      CHECK_EQ(floatToBfloat16(bitsToFloat((high << 16) | low)), expected);
      CHECK_EQ(floatToBfloat16(bitsToFloat(0x80000000 | (high << 16) | low)), 0x8000 | expected);
    }
  }
  // A NaN whose high half alone would be an infinity.
  CHECK(std::isnan(bfloat16ToFloat(floatToBfloat16(bitsToFloat(0x7f800001)))));
  CHECK(std::isnan(bfloat16ToFloat(floatToBfloat16(bitsToFloat(0xff80ffff)))));
}

}  // namespace shardspeed::test
