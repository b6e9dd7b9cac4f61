#include "runtime/page_pool.h"

namespace shardspeed {

PagePool::PagePool(int64_t pages) : pages_(static_cast<size_t>(pages)) {
  // Taken from the back: low pages first, so that a lightly used cache touches little memory.
  for (int64_t page = pages; page-- > 0;) blank_.push_back(static_cast<int32_t>(page));
}

int32_t PagePool::take() {
  int32_t page;
  if (!blank_.empty()) {
    page = blank_.back();
    blank_.pop_back();
  } else {
    page = unheld_.front();
    unheld_.pop_front();
    found_.erase(*at(page).found);
    at(page).found.reset();
  }
  at(page).holders = 1;
  return page;
}

void PagePool::hold(int32_t page) {
  if (at(page).holders++ == 0) unheld_.erase(at(page).unheldAt);
}

void PagePool::release(int32_t page) {
  Page& released = at(page);
  if (--released.holders > 0) return;
  if (released.found)
    released.unheldAt = unheld_.insert(unheld_.end(), page);
  else
    blank_.push_back(page);
}

int64_t PagePool::publish(int32_t page, const PageKey& key) {
  if (at(page).found) return (*at(page).found)->second.content;
  const auto [place, isNew] = found_.try_emplace(key, FoundPage{page, lastContent_ + 1});
  if (isNew) {
    ++lastContent_;
    at(page).found = place;
  }
  return place->second.content;
}

std::optional<FoundPage> PagePool::find(const PageKey& key) const {
  const auto place = found_.find(key);
  if (place == found_.end()) return std::nullopt;
  return place->second;
}

}  // namespace shardspeed
