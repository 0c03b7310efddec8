#include "ray/transfer/offer_table.h"

#include <utility>
#include <vector>

#include "ray/base/check.h"

namespace ray::transfer {

using base::NodeId;
using base::ObjectId;

OfferTable::AvailableBytes OfferTable::Begin(const ObjectId& id, uint64_t available_bytes) {
  std::unique_ptr<Offer>& offer = offers_[id];
  if (offer == nullptr) {
    offer = std::make_unique<Offer>();
    offer->available_bytes = std::make_shared<std::atomic<uint64_t>>(available_bytes);
  }
  MANTA_CHECK_MSG(offer->after.empty(), "OFFER-1");
  ++offer->readers;
  return offer->available_bytes;
}

void OfferTable::End(const ObjectId& id) {
  const auto it = offers_.find(id);
  MANTA_CHECK(it != offers_.end());
  if (--it->second->readers > 0) return;
  const std::unique_ptr<Offer> offer = std::move(it->second);
  offers_.erase(it);
  for (absl::AnyInvocable<void()>& run : offer->after) run();
}

void OfferTable::AskMore(const NodeId& node, const ObjectId& id, uint64_t known_bytes,
                         OnMore on_more) {
  const auto it = offers_.find(id);
  if (it == offers_.end()) return on_more(0);
  it->second->questions[node] = {known_bytes, std::move(on_more)};
  Answer(it->second.get());
}

void OfferTable::Forget(const NodeId& node, const ObjectId& id) {
  if (const auto it = offers_.find(id); it != offers_.end()) it->second->questions.erase(node);
}

void OfferTable::Grow(const ObjectId& id, uint64_t available_bytes) {
  const auto it = offers_.find(id);
  if (it == offers_.end() || *it->second->available_bytes >= available_bytes) return;
  *it->second->available_bytes = available_bytes;
  Answer(it->second.get());
}

void OfferTable::GiveUp(const ObjectId& id) {
  const auto it = offers_.find(id);
  if (it == offers_.end()) return;
  it->second->given_up = true;
  Answer(it->second.get());
}

void OfferTable::Answer(Offer* offer) {
  const uint64_t available = *offer->available_bytes;
  std::vector<OnMore> answered;
  absl::erase_if(offer->questions, [&](auto& entry) {
    Question& question = entry.second;
    if (!offer->given_up && available <= question.known_bytes) return false;
    answered.push_back(std::move(question.on_more));
    return true;
  });
  for (OnMore& on_more : answered) on_more(offer->given_up ? 0 : available);
}

void OfferTable::AfterReaders(const ObjectId& id, absl::AnyInvocable<void()> run) {
  const auto it = offers_.find(id);
  if (it == offers_.end()) return run();
  it->second->after.push_back(std::move(run));
}

}  // namespace ray::transfer
