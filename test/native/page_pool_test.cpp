#include "runtime/page_pool.h"

#include <map>

#include "check.h"
#include "random.h"

namespace shardspeed::test {

static PageKey keyOf(int32_t token, int64_t before = 0, const std::string& salt = "") {
  PageKey key{before, salt, 0, {}};
  key.tokens.fill(token);
  return key;
}

TEST(page_pool, released_pages_stay_findable_until_they_are_taken) {
  PagePool pool(2);
  const int32_t page = pool.take();
  const int64_t content = pool.publish(page, keyOf(1));
  pool.release(page);
  CHECK_EQ(pool.freePages(), 2);
  REQUIRE(pool.find(keyOf(1)).has_value());
  CHECK_EQ(pool.find(keyOf(1))->page, page);
  CHECK_EQ(pool.find(keyOf(1))->content, content);
  pool.take();  // the blank one
  CHECK(pool.find(keyOf(1)).has_value());
  CHECK_EQ(pool.take(), page);
  CHECK(!pool.find(keyOf(1)).has_value());
  CHECK_EQ(pool.findablePages(), 0);
  CHECK_EQ(pool.freePages(), 0);
}

TEST(page_pool, the_end_of_a_sequence_is_taken_before_its_beginning) {
  PagePool pool(3);
  const int32_t first = pool.take(), second = pool.take(), third = pool.take();
  const int64_t one = pool.publish(first, keyOf(1));
  const int64_t two = pool.publish(second, keyOf(2, one));
  pool.publish(third, keyOf(3, two));
  for (const int32_t page : {third, second, first}) pool.release(page);
  pool.hold(second);
  pool.release(second);  // used last
  for (const int32_t page : {third, first, second}) CHECK_EQ(pool.take(), page);
}

TEST(page_pool, a_page_is_free_when_all_have_released_it) {
  PagePool pool(1);
  const int32_t page = pool.take();
  pool.publish(page, keyOf(1));
  pool.hold(page);
  pool.release(page);
  CHECK_EQ(pool.freePages(), 0);
  pool.release(page);
  CHECK_EQ(pool.freePages(), 1);
}

TEST(page_pool, keys_differ_by_salt_class_and_what_is_before) {
  PagePool pool(4);
  const int64_t one = pool.publish(pool.take(), keyOf(1, 0, "a"));
  CHECK(!pool.find(keyOf(1)).has_value());
  CHECK(!pool.find(keyOf(1, 0, "b")).has_value());
  PageKey ofOther = keyOf(1, 0, "a");
  ofOther.promptClass = 1;
  CHECK(!pool.find(ofOther).has_value());
  CHECK(!pool.find(keyOf(1, one)).has_value());
  // Of two pages with the same content the first is found, and the other is blank when it is released.
  const int32_t twin = pool.take();
  CHECK_EQ(pool.publish(twin, keyOf(1, 0, "a")), one);
  CHECK(pool.find(keyOf(1, 0, "a"))->page != twin);
  pool.release(twin);
  CHECK_EQ(pool.findablePages(), 1);
  CHECK_EQ(pool.take(), twin);
}

// Against counts that are kept here.
TEST(page_pool, random_use_loses_no_page) {
  Random random(7);
  constexpr int64_t kPages = 9;
  PagePool pool(kPages);
  std::map<int32_t, int64_t> holders;
  std::map<int32_t, int32_t> held;  // the token of a findable page
  for (int round = 0; round < (kReduced ? 2000 : 20000); ++round) {
    const auto token = static_cast<int32_t>(random.below(12));
    const auto found = pool.find(keyOf(token));
    if (found && held.contains(found->page)) CHECK_EQ(held[found->page], token);
    if (found && random.chance(0.5)) {
      pool.hold(found->page);
      ++holders[found->page];
      held[found->page] = token;
    } else if (pool.freePages() > 0 && random.chance(0.5)) {
      const int32_t page = pool.take();
      CHECK_EQ(holders[page]++, 0);
      held.erase(page);
      if (!pool.find(keyOf(token)) && random.chance(0.7)) {
        pool.publish(page, keyOf(token));
        held[page] = token;
      }
    } else {
      for (auto& [page, count] : holders)
        if (count > 0 && random.chance(0.5)) {
          pool.release(page);
          --count;
        }
    }
    int64_t used = 0;
    for (const auto& [page, count] : holders) used += count > 0;
    CHECK_EQ(pool.freePages(), kPages - used);
    CHECK(pool.findablePages() <= kPages);
  }
}

}  // namespace shardspeed::test
