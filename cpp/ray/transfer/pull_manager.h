// Which objects are fetched from other nodes: from where, in which order, and what happens when a
// source is busy or breaks.
//
// A request names objects and the nodes that may have them. Of each object:
//
//   kToAsk -> kAsking -> kQueued -> kReserving -> kFetching -> kHere
//
// The source is asked (it pins the object), memory is admitted and reserved, the bytes are fetched
// in chunks, the copy is sealed. A source that breaks sends the object back to kToAsk; chunks that
// are here stay. A copy that is evicted before its requests are through is fetched again.
//
// A copy that is being fetched is a source itself, of the bytes that are here: so a broadcast goes
// through all nodes at once. Who fetches from one asks for more where it ends.
//
// A pure state machine: events and time in, Actions out, inline; they must not call back.
//
// Owner: TransferService.   Threads: loop-bound.   Errors: none; what the world can cause is an
// action (Fail). Answers that come late, twice, or to nothing are ignored.
//   PULL-1  bytes of objects that are being fetched <= memory_limit, unless it is one object alone.
//           What is larger than the whole store takes none of its memory (it gets a file), and does
//           not count.
//   PULL-2  memory that was reserved is sealed or aborted, once no chunk is on its way into it.
//   PULL-3  each Ask is followed by one End to that node, unless it said that it has no place or no
//           copy, or is gone.
//   PULL-4  memory is admitted in the order of requests, within a priority.
//   PULL-5  only the first request keeps copies from eviction until it is through: so two requests
//           never hold the memory that each other needs.
//   PULL-6  a copy in the making is fetched from one of a lower tier only (complete ones have tier
//           0): so no two wait for each other's bytes. Its tier is fixed once it has memory.
#pragma once

#include <compare>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/btree_set.h"
#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "ray/base/clock.h"
#include "ray/base/ids.h"
#include "ray/store/extent.h"

namespace ray::transfer {

enum class PullPriority : uint8_t {
  kGet,       // somebody waits for the value
  kPrefetch,  // somebody will
};

// What a source says of an object.
struct ObjectFacts {
  uint64_t size_bytes = 0;
  base::WorkerId owner;
  base::NodeId owner_node;
  std::string note;
};

struct PullAnswer {
  enum class Outcome {
    kReady,   // pinned there until End
    kAbsent,  // no copy there
    kBusy,    // not now; other_nodes have it, too
    kBroken,  // the question or its answer was lost; reason says how
  };
  Outcome outcome = Outcome::kBroken;
  ObjectFacts facts;
  uint64_t available_bytes = UINT64_MAX;  // kReady: the first so many can be fetched now
  uint32_t tier = 0;                      // kReady: of that copy
  std::vector<base::NodeId> other_nodes;
  std::string reason;
};

enum class PullFailure { kLost, kNoMemory };

// Requests of one priority are served in the order of their numbers.
struct PullRequestId {
  PullPriority priority = PullPriority::kGet;
  uint64_t number = 0;
  friend auto operator<=>(const PullRequestId&, const PullRequestId&) = default;
};

class PullManager {
 public:
  using RequestId = PullRequestId;
  struct Wanted {
    base::ObjectId id;
    std::vector<base::NodeId> sources;  // the likeliest first
    bool here = false;                  // a copy is here; it is fetched should it be evicted
  };

  class Actions {
   public:
    virtual ~Actions() = default;
    // Answered by OnAnswer with the same number. `tier_below`: what will do; 0: any.
    virtual void Ask(const base::NodeId& node, const base::ObjectId& id, uint64_t number,
                     uint32_t tier_below) = 0;
    // That copy is in the making. Answered by OnMore with the same number.
    virtual void AskMore(const base::NodeId& node, const base::ObjectId& id, uint64_t number,
                         uint64_t known_bytes) = 0;
    virtual void End(const base::NodeId& node, const base::ObjectId& id, bool fetched) = 0;
    // Memory for a secondary copy; answered by OnReserved, OnExists or OnNoMemory.
    virtual void Reserve(const base::ObjectId& id, const ObjectFacts& facts) = 0;
    // Part of the object's bytes into its memory; answered by OnFetched with the same number.
    virtual void Fetch(const base::NodeId& node, const base::ObjectId& id, store::Extent part,
                       uint64_t number) = 0;
    // All bytes are there. `hold`: it is pinned until Unhold.
    virtual void Seal(const base::ObjectId& id, bool hold) = 0;
    virtual void Unhold(const base::ObjectId& id) = 0;
    virtual void Abort(const base::ObjectId& id) = 0;
    // Whoever waits for the object is told.
    virtual void Fail(const base::ObjectId& id, PullFailure failure, const std::string& reason) = 0;
  };

  struct Options {
    base::NodeId self;
    uint64_t memory_limit = 0;
    uint64_t capacity_bytes = UINT64_MAX;  // of the store
    uint64_t chunk_bytes = 4 << 20;
    size_t chunks_per_node = 8;  // on their way from one node, at most
    size_t asked_max = 64;  // objects that sources hold for us and we do not fetch yet, at most
    int attempts_max = 10;  // at a source that breaks without having sent a chunk
    absl::Duration retry_pause = absl::Milliseconds(100);  // at last; the first ones are shorter
  };

  // `clock` and `actions` outlive the manager.
  PullManager(const Options& options, const base::Clock* clock, Actions* actions);

  // Fetches the objects. Those that are fetched already learn of further sources. This node
  // is no source; an object without any fails.
  RequestId Pull(std::vector<Wanted> wanted, PullPriority priority);
  // The request is answered or nobody waits for it. What is being fetched is fetched to its end:
  // who asks again and again with short timeouts gets it at last.
  void Cancel(const RequestId& request);

  void OnAnswer(const base::ObjectId& id, uint64_t number, const PullAnswer& answer);
  // Not more than was known: that copy will not be completed.
  void OnMore(const base::ObjectId& id, uint64_t number, uint64_t available_bytes);
  void OnReserved(const base::ObjectId& id);
  // Somebody else has made the object here meanwhile.
  void OnExists(const base::ObjectId& id);
  void OnNoMemory(const base::ObjectId& id, const std::string& reason);
  // `error` empty: the bytes are there.
  void OnFetched(const base::ObjectId& id, uint64_t number, const std::string& error);
  void OnEvicted(const base::ObjectId& id);
  // Somebody else needs memory: held copies may be evicted.
  void Revoke();
  void NodeGone(const base::NodeId& node);

  // A copy in the making, as a source for others; it ends with Seal or Abort.
  struct Partial {
    ObjectFacts facts;
    uint64_t available_bytes = 0;  // the first so many are here
    uint32_t tier = 0;
  };
  std::optional<Partial> FindPartial(const base::ObjectId& id) const;

  void Tick();
  absl::Time NextDeadline() const;  // InfiniteFuture: nothing waits for time

  bool holds() const { return !held_.empty(); }
  size_t pulls() const { return pulls_.size(); }
  uint64_t fetching_bytes() const { return fetching_bytes_; }
  // For tests: aborts on a broken invariant.
  void CheckInvariants() const;

 private:
  enum class State { kToAsk, kPaused, kAsking, kQueued, kReserving, kFetching, kHere };
  // Unique; orders pulls as the first request that waits for them.
  using Rank = std::pair<RequestId, uint64_t>;
  struct Source {
    base::NodeId node;
    int failures = 0;          // since it sent something
    uint64_t asked_round = 0;  // the last one in which it was asked
  };
  struct Pulled {
    base::ObjectId id;
    Rank rank;
    absl::btree_set<RequestId> requests;  // empty: nobody waits any more
    State state = State::kToAsk;
    std::vector<Source> sources;
    std::string tried;    // what became of the sources that were dropped
    uint64_t round = 1;   // of asking all sources
    absl::Time ask_at;    // kPaused
    base::NodeId source;  // asked or fetched from; nil: none
    uint64_t ask_number = 0;
    ObjectFacts facts;
    bool admitted = false;
    uint64_t fetching_bytes = 0;  // of the store's memory, once it is admitted
    bool reserved = false;        // these bytes of the store
    bool held = false;
    uint32_t tier = 0;
    uint64_t available_bytes = 0;            // at `source`
    uint64_t more_number = 0;                // of the question for more; 0: none
    uint64_t chunks_issued = 0;              // the first so many
    absl::btree_set<uint64_t> chunks_again;  // of these, to be issued once more
    uint64_t chunks_here = 0;
    absl::flat_hash_map<uint64_t, uint64_t> chunks_coming;  // number -> chunk, all from `source`
    std::string broken;  // why nothing more is fetched from `source`; empty: it is well
  };
  struct Node {
    size_t chunks_coming = 0;
    absl::btree_map<Rank, Pulled*> pulls;  // that have chunks to issue
  };

  Pulled* Find(const base::ObjectId& id);
  void Want(const RequestId& request, const Wanted& wanted);
  void RankAs(Pulled* pull, const RequestId& request);
  void AddSources(Pulled* pull, absl::Span<const base::NodeId> nodes);
  void DropSource(Pulled* pull, const base::NodeId& node, const std::string& why);
  // Asks the next source, now or after a pause; fails the pull if there is none.
  void AskNext(Pulled* pull);
  void Ask(Pulled* pull, Source* source);
  // Nothing more comes from this source; tries the next one.
  void SourceBroke(Pulled* pull, const std::string& why);
  void EndSource(Pulled* pull, bool fetched);
  void StartFetching(Pulled* pull);
  void IssueChunk(Node* node, Pulled* pull);
  // If the source has nothing further now.
  void AskForMore(Pulled* pull);
  // Chunks that are under way may still come.
  void StopFetching(Pulled* pull, const std::string& why);
  void AfterLastChunk(Pulled* pull);
  void Here(Pulled* pull);
  // Nobody waits for it: it goes, unless it is being fetched.
  void Abandon(Pulled* pull);
  void Fail(Pulled* pull, PullFailure failure, const std::string& reason);
  uint64_t MemoryFor(const Pulled& pull) const;
  void DropMemory(Pulled* pull);
  void Enter(Pulled* pull, State state);
  void LeaveState(Pulled* pull);
  void Erase(Pulled* pull);
  bool IsFirst(const Pulled& pull) const;
  void UnholdAllButFirst();
  uint64_t ChunkCount(const Pulled& pull) const;
  store::Extent ChunkExtent(const Pulled& pull, uint64_t chunk) const;
  // ChunkCount: all are issued.
  uint64_t NextChunk(const Pulled& pull) const;
  bool MayIssue(const Pulled& pull) const;
  // Does all that has become possible.
  void Advance();

  const Options options_;
  const base::Clock* const clock_;
  Actions* const actions_;

  absl::btree_map<RequestId, absl::flat_hash_set<base::ObjectId>> requests_;
  absl::flat_hash_map<base::ObjectId, std::unique_ptr<Pulled>> pulls_;
  absl::btree_map<Rank, Pulled*> to_ask_;
  absl::btree_map<std::pair<absl::Time, Rank>, Pulled*> paused_;
  absl::btree_map<Rank, Pulled*> queued_;
  absl::flat_hash_map<base::NodeId, Node> nodes_;  // that something is fetched from
  absl::flat_hash_set<Pulled*> held_;
  size_t asked_ = 0;             // kAsking and kQueued, without memory
  uint64_t fetching_bytes_ = 0;  // kReserving or reserved
  uint64_t last_request_ = 0;
  uint64_t last_pull_ = 0;
  uint64_t last_number_ = 0;  // of questions and fetches
};

}  // namespace ray::transfer
