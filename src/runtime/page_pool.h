#pragma once

#include <array>
#include <cstdint>
#include <list>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "backend.h"

namespace shardspeed {

// What a full page holds: its tokens, behind those of the page before it. Compared exactly, not by a hash, so that no
// sequence can be given the page of another text.
struct PageKey {
  int64_t before = 0;       // FoundPage::content of the page before, 0 = a sequence begins here
  std::string salt{};       // at the beginning of a sequence only: pages behind are reached through that one
  int64_t promptClass = 0;  // SequenceSlice's: the same tokens have other keys and values in another one
  std::array<int32_t, kPageTokens> tokens{};

  auto operator<=>(const PageKey&) const = default;
};

struct FoundPage {
  int32_t page;
  int64_t content;  // never given twice
};

// The pages of the KV cache: how many sequences hold each, and what those hold that can be shared. A page that nobody
// holds stays findable until it is taken for other tokens, the one that was released first first.
class PagePool {
 public:
  explicit PagePool(int64_t pages);

  // Those that nobody holds, findable ones included.
  int64_t freePages() const { return static_cast<int64_t>(blank_.size() + unheld_.size()); }
  int64_t findablePages() const { return static_cast<int64_t>(found_.size()); }

  // A page for new tokens, held once. There must be a free one.
  int32_t take();
  // Holds a page once more.
  void hold(int32_t page);
  // Release the pages of a sequence from its end to its beginning, so that the end is taken for other tokens first.
  void release(int32_t page);

  // Makes a held page findable, whose tokens must be computed. Where another page has the same content that one stays
  // findable. Returns the content, for the key of the page behind.
  int64_t publish(int32_t page, const PageKey& key);
  // Does not hold the page.
  std::optional<FoundPage> find(const PageKey& key) const;

 private:
  using Found = std::map<PageKey, FoundPage>;
  struct Page {
    int64_t holders = 0;
    std::optional<Found::iterator> found{};   // where it is findable
    std::list<int32_t>::iterator unheldAt{};  // if it is findable and nobody holds it
  };

  Page& at(int32_t page) { return pages_[static_cast<size_t>(page)]; }

  std::vector<Page> pages_;
  std::vector<int32_t> blank_;  // not findable
  std::list<int32_t> unheld_;   // findable, released first first
  Found found_;
  int64_t lastContent_ = 0;
};

}  // namespace shardspeed
