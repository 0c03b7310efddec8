// Copies in the making that other nodes read already: how much of each is here, who waits for more,
// and what has to wait until nobody reads it.
//
// Pure state, no I/O.   Owner: TransferService.   Threads: loop-bound; what Begin returns may be
// read by any thread.   Errors: none.
//   OFFER-1  what AfterReaders was given runs in order, once each, while nobody reads the object:
//            so bytes that were offered stay where they are.
//   OFFER-2  a node waits for more of an object once; each question is answered, unless its node
//            asks anew or stops reading.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/any_invocable.h"
#include "ray/base/ids.h"

namespace ray::transfer {

class OfferTable {
 public:
  // `available_bytes`: the first so many; not more than the reader knew: there will be no more.
  using OnMore = absl::AnyInvocable<void(uint64_t available_bytes)>;
  using AvailableBytes = std::shared_ptr<const std::atomic<uint64_t>>;

  // One reader more, until End. How much it may read grows.
  AvailableBytes Begin(const base::ObjectId& id, uint64_t available_bytes);
  void End(const base::ObjectId& id);
  // Answers once more than `known_bytes` are here, or none will be.
  void AskMore(const base::NodeId& node, const base::ObjectId& id, uint64_t known_bytes,
               OnMore on_more);
  // The node reads it no longer.
  void Forget(const base::NodeId& node, const base::ObjectId& id);
  // The first so many bytes are here.
  void Grow(const base::ObjectId& id, uint64_t available_bytes);
  // The copy will not be completed.
  void GiveUp(const base::ObjectId& id);
  // Runs now, if nobody reads the object.
  void AfterReaders(const base::ObjectId& id, absl::AnyInvocable<void()> run);

  size_t offers() const { return offers_.size(); }

 private:
  struct Question {
    uint64_t known_bytes = 0;
    OnMore on_more;
  };
  struct Offer {
    size_t readers = 0;
    bool given_up = false;
    std::shared_ptr<std::atomic<uint64_t>> available_bytes;
    absl::flat_hash_map<base::NodeId, Question> questions;
    std::deque<absl::AnyInvocable<void()>> after;
  };
  static void Answer(Offer* offer);

  absl::flat_hash_map<base::ObjectId, std::unique_ptr<Offer>> offers_;
};

}  // namespace ray::transfer
