#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>

#include "base/error.h"

// A small test frame: named cases that register themselves, checks that say where, what was found and what was
// expected, and a summary. A failed check counts and the case goes on; a case with many failures is cut short.

namespace shardspeed::test {

struct Registration {
  Registration(const char* topic, const char* name, void (*run)());
};

// Thrown by SKIP; what it holds is printed beside the case.
struct Skipped {
  std::string reason;
};

// Thrown where going on is pointless: after too many failures, or by REQUIRE.
struct CutShort {};

void countCheck();
void reportFailure(const char* file, int line, const std::string& text);

// In a catch block: what was thrown, as text.
std::string describeException();

// True in sanitizer builds, which are some ten times slower: loops take fewer rounds there.
constexpr bool kReduced =
#ifdef SHARDSPEED_REDUCED
    true;
#else
    false;
#endif

// True under ThreadSanitizer. Which barriers order two accesses depends on the code that runs, not on values and hardly
// on sizes: there one case of each kernel variant is enough, and AddressSanitizer and the released build run the
// others.
constexpr bool kRaces =
#ifdef SHARDSPEED_RACES
    true;
#else
    false;
#endif

// How values are printed. Few types and all in main.cpp: instances of templates would be most of what is compiled.
std::string show(int64_t value);
std::string show(uint64_t value);
std::string show(double value);
std::string show(const char* value);
std::string show(const std::string& value);

template <typename T>
std::string showAny(const T& value) {
  if constexpr (std::is_enum_v<T> || std::is_same_v<T, bool>)
    return show(static_cast<int64_t>(value));
  else if constexpr (std::is_floating_point_v<T>)
    return show(static_cast<double>(value));
  else if constexpr (std::is_signed_v<T>)
    return show(static_cast<int64_t>(value));
  else if constexpr (std::is_unsigned_v<T>)
    return show(static_cast<uint64_t>(value));
  else
    return show(value);
}

void reportUnequal(const char* file, int line, const char* what, const std::string& found, const std::string& expected);
void reportBits(const char* file, int line, const char* what, int64_t index, int64_t count, const std::string& found,
                const std::string& expected);

// What the checks below it are about, printed with each failure: Note note("cols", cols, "rows", rows);
// Text is made only where it is printed, so notes may stand in inner loops.
class AnyNote {
 public:
  virtual std::string text() const = 0;

 protected:
  AnyNote();
  ~AnyNote();
};

template <typename... Parts>
class Note final : public AnyNote {
 public:
  explicit Note(const Parts&... parts) : parts_(parts...) {}
  Note(const Note&) = delete;
  Note& operator=(const Note&) = delete;
  std::string text() const override {
    std::string text;
    std::apply([&](const auto&... part) { ((text.append(text.empty() ? "" : " ").append(showAny(part))), ...); },
               parts_);
    return text;
  }

 private:
  std::tuple<std::decay_t<const Parts&>...> parts_;
};

template <typename A, typename B>
void checkEqual(const char* file, int line, const char* what, const A& found, const B& expected) {
  countCheck();
  bool equal;
  if constexpr (std::is_integral_v<A> && std::is_integral_v<B> && !std::is_same_v<A, bool> && !std::is_same_v<B, bool>)
    equal = std::cmp_equal(found, expected);
  else
    equal = found == expected;
  if (!equal) reportUnequal(file, line, what, showAny(found), showAny(expected));
}

// Within `absolute` or within `relative` of the expected value, whichever is wider. Never true for a NaN.
void reportFar(const char* file, int line, const char* what, double found, double expected, double tolerance);
inline void checkNear(const char* file, int line, const char* what, double found, double expected, double absolute,
                      double relative = 0) {
  countCheck();
  const double tolerance = std::max(absolute, relative * std::abs(expected));
  if (!(std::abs(found - expected) <= tolerance)) reportFar(file, line, what, found, expected, tolerance);
}

// The same bits in all places; reports the first that differs.
template <typename T>
void checkBits(const char* file, int line, const char* what, const T* found, const T* expected, int64_t count) {
  countCheck();
  if (count == 0 || std::memcmp(found, expected, static_cast<size_t>(count) * sizeof(T)) == 0) return;
  for (int64_t i = 0; i < count; ++i)
    if (std::memcmp(found + i, expected + i, sizeof(T)) != 0)
      return reportBits(file, line, what, i, count, showAny(found[i]), showAny(expected[i]));
}

void checkThrows(const char* file, int line, const char* what, const char* code, const std::string& part,
                 const std::function<void()>& body);

int runAll(int argc, char** argv);

}  // namespace shardspeed::test

#define TEST(topic, name)                                                                                            \
  static void test_##topic##_##name();                                                                               \
  static const ::shardspeed::test::Registration registration_##topic##_##name{#topic, #name, test_##topic##_##name}; \
  static void test_##topic##_##name()
#define CHECK(condition)             \
  (::shardspeed::test::countCheck(), \
   (condition) ? (void)0 : ::shardspeed::test::reportFailure(__FILE__, __LINE__, "found false: " #condition))
#define REQUIRE(condition)                                                               \
  do {                                                                                   \
    ::shardspeed::test::countCheck();                                                    \
    if (!(condition)) {                                                                  \
      ::shardspeed::test::reportFailure(__FILE__, __LINE__, "found false: " #condition); \
      throw ::shardspeed::test::CutShort{};                                              \
    }                                                                                    \
  } while (false)
#define CHECK_EQ(found, expected) ::shardspeed::test::checkEqual(__FILE__, __LINE__, #found, found, expected)
#define CHECK_NEAR(found, expected, ...) \
  ::shardspeed::test::checkNear(__FILE__, __LINE__, #found, found, expected, __VA_ARGS__)
#define CHECK_BITS(found, expected, count) \
  ::shardspeed::test::checkBits(__FILE__, __LINE__, #found, found, expected, count)
#define CHECK_THROWS(code, part, expression) \
  ::shardspeed::test::checkThrows(__FILE__, __LINE__, #expression, code, part, [&] { expression; })
#define FAIL(text) ::shardspeed::test::reportFailure(__FILE__, __LINE__, text)
#define SKIP(reason)                  \
  throw ::shardspeed::test::Skipped { \
    reason                            \
  }
