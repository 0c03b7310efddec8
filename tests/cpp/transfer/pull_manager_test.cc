#include "ray/transfer/pull_manager.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <deque>
#include <map>
#include <set>

namespace ray::transfer {
namespace {

using base::NodeId;
using base::ObjectId;
using ::testing::HasSubstr;
using Outcome = PullAnswer::Outcome;

constexpr uint64_t kChunk = 100;

// Remembers what the manager asks for, and answers when the test says so.
class PullManagerTest : public testing::Test, protected PullManager::Actions {
 protected:
  struct Asked {
    NodeId node;
    ObjectId id;
    uint64_t number;
    uint32_t tier_below = 0;
  };
  struct AskedMore {
    uint64_t number;
    uint64_t known_bytes;
  };
  struct Fetched {
    NodeId node;
    ObjectId id;
    store::Extent part;
    uint64_t number;
  };
  struct Ended {
    NodeId node;
    ObjectId id;
    bool fetched;
  };
  struct Failed {
    ObjectId id;
    PullFailure failure;
    std::string reason;
  };

  void TearDown() override { manager_.CheckInvariants(); }

  PullManager::RequestId Pull(std::vector<ObjectId> ids, std::vector<NodeId> sources,
                              PullPriority priority = PullPriority::kGet) {
    std::vector<PullManager::Wanted> wanted;
    for (const ObjectId& id : ids) wanted.push_back({.id = id, .sources = sources});
    return manager_.Pull(std::move(wanted), priority);
  }
  static PullAnswer Ready(uint64_t size) {
    return {.outcome = Outcome::kReady, .facts = {.size_bytes = size}};
  }
  Asked TakeAsk() {
    EXPECT_FALSE(asked_.empty());
    if (asked_.empty()) return {};
    Asked ask = asked_.front();
    asked_.pop_front();
    return ask;
  }
  void Answer(const Asked& ask, const PullAnswer& answer) {
    manager_.OnAnswer(ask.id, ask.number, answer);
  }
  // From the question to the first chunks.
  void Begin(uint64_t size) {
    const Asked ask = TakeAsk();
    Answer(ask, Ready(size));
    manager_.OnReserved(ask.id);
  }
  Fetched TakeFetch() {
    EXPECT_FALSE(fetches_.empty());
    if (fetches_.empty()) return {};
    Fetched fetch = fetches_.front();
    fetches_.pop_front();
    return fetch;
  }
  void FetchAll() {
    while (!fetches_.empty()) {
      const Fetched fetch = TakeFetch();
      manager_.OnFetched(fetch.id, fetch.number, "");
    }
  }

  static PullAnswer Partial(uint64_t size, uint64_t available, uint32_t tier) {
    return {.outcome = Outcome::kReady,
            .facts = {.size_bytes = size},
            .available_bytes = available,
            .tier = tier};
  }

  void Ask(const NodeId& node, const ObjectId& id, uint64_t number, uint32_t tier_below) override {
    asked_.push_back({node, id, number, tier_below});
  }
  void AskMore(const NodeId&, const ObjectId&, uint64_t number, uint64_t known_bytes) override {
    asked_more_.push_back({number, known_bytes});
  }
  void End(const NodeId& node, const ObjectId& id, bool fetched) override {
    ended_.push_back({node, id, fetched});
  }
  void Reserve(const ObjectId& id, const ObjectFacts&) override { reserved_.push_back(id); }
  void Fetch(const NodeId& node, const ObjectId& id, store::Extent part, uint64_t number) override {
    fetches_.push_back({node, id, part, number});
  }
  void Seal(const ObjectId& id, bool hold) override {
    sealed_.push_back(id);
    if (hold) held_.insert(id.Hex());
  }
  void Unhold(const ObjectId& id) override { EXPECT_EQ(held_.erase(id.Hex()), 1u); }
  void Abort(const ObjectId& id) override { aborted_.push_back(id); }
  void Fail(const ObjectId& id, PullFailure failure, const std::string& reason) override {
    failed_.push_back({id, failure, reason});
  }

  const NodeId self_ = NodeId::Random();
  const NodeId a_ = NodeId::Random();
  const NodeId b_ = NodeId::Random();
  const ObjectId x_ = ObjectId::Random();
  const ObjectId y_ = ObjectId::Random();
  base::VirtualClock clock_;
  PullManager manager_{{.self = self_,
                        .memory_limit = 1000,
                        .capacity_bytes = 5000,
                        .chunk_bytes = kChunk,
                        .chunks_per_node = 2,
                        .asked_max = 3,
                        .attempts_max = 3},
                       &clock_,
                       this};
  std::deque<Asked> asked_;
  std::vector<AskedMore> asked_more_;
  std::deque<Fetched> fetches_;
  std::vector<Ended> ended_;
  std::vector<ObjectId> reserved_, sealed_, aborted_;
  std::vector<Failed> failed_;
  std::set<std::string> held_;
};

TEST_F(PullManagerTest, FetchesAnObjectInChunksAndSealsIt) {
  const auto request = Pull({x_}, {a_});
  Begin(250);
  EXPECT_EQ(fetches_.size(), 2u) << "as many as may be on their way";
  std::set<uint64_t> offsets;
  uint64_t bytes = 0;
  while (!fetches_.empty()) {
    const Fetched fetch = TakeFetch();
    offsets.insert(fetch.part.offset);
    bytes += fetch.part.size;
    EXPECT_TRUE(sealed_.empty());
    manager_.OnFetched(fetch.id, fetch.number, "");
  }
  EXPECT_EQ(offsets, (std::set<uint64_t>{0, 100, 200}));
  EXPECT_EQ(bytes, 250u);
  EXPECT_EQ(sealed_.size(), 1u);
  ASSERT_EQ(ended_.size(), 1u);
  EXPECT_TRUE(ended_[0].fetched);
  EXPECT_EQ(manager_.fetching_bytes(), 0u);
  manager_.Cancel(request);
  EXPECT_EQ(manager_.pulls(), 0u);
}

TEST_F(PullManagerTest, WhatIsLargerThanTheStoreTakesNoneOfItsMemory) {
  const ObjectId z = ObjectId::Random();
  Pull({x_}, {a_});
  Begin(5001);
  EXPECT_EQ(manager_.fetching_bytes(), 0u);
  Pull({y_}, {a_});
  Begin(900);
  Pull({z}, {b_});
  Begin(6000);
  EXPECT_THAT(reserved_, testing::ElementsAre(x_, y_, z)) << "neither waits for the other";
  EXPECT_EQ(manager_.fetching_bytes(), 900u);
  manager_.CheckInvariants();
  FetchAll();
  EXPECT_THAT(sealed_, testing::UnorderedElementsAre(x_, y_, z));
  EXPECT_EQ(manager_.fetching_bytes(), 0u);
}

TEST_F(PullManagerTest, AbsentEverywhereIsLostWithTheReasons) {
  Pull({x_}, {self_, a_, b_});
  Answer(TakeAsk(), {.outcome = Outcome::kAbsent});
  const Asked second = TakeAsk();
  EXPECT_EQ(second.node, b_);
  Answer(second, {.outcome = Outcome::kAbsent});
  ASSERT_EQ(failed_.size(), 1u);
  EXPECT_EQ(failed_[0].failure, PullFailure::kLost);
  EXPECT_THAT(failed_[0].reason, HasSubstr(a_.Hex().substr(0, 12)));
  EXPECT_THAT(failed_[0].reason, HasSubstr(b_.Hex().substr(0, 12)));
}

TEST_F(PullManagerTest, ObjectWithoutASourceIsLostAtOnce) {
  Pull({x_}, {self_});
  EXPECT_EQ(failed_.size(), 1u);
  EXPECT_TRUE(asked_.empty());
}

TEST_F(PullManagerTest, BusySourceNamesOthersAndIsAskedAgainAfterAPause) {
  Pull({x_}, {a_});
  Answer(TakeAsk(), {.outcome = Outcome::kBusy, .other_nodes = {b_, self_}});
  const Asked second = TakeAsk();
  EXPECT_EQ(second.node, b_);
  Answer(second, {.outcome = Outcome::kBusy});
  EXPECT_TRUE(asked_.empty());
  for (const double pause_ms : {12.5, 25.0, 50.0, 100.0, 100.0}) {
    EXPECT_EQ(manager_.NextDeadline(), clock_.Now() + absl::Milliseconds(pause_ms));
    clock_.Advance(absl::Milliseconds(pause_ms));
    manager_.Tick();
    Answer(TakeAsk(), {.outcome = Outcome::kBusy});
    Answer(TakeAsk(), {.outcome = Outcome::kBusy});
  }
  clock_.Advance(absl::Milliseconds(100));
  manager_.Tick();
  Answer(TakeAsk(), Ready(10));
  EXPECT_EQ(reserved_.size(), 1u);
}

TEST_F(PullManagerTest, BrokenSourceIsResumedElsewhereWithWhatIsThere) {
  Pull({x_}, {a_, b_});
  Begin(400);
  Fetched first = TakeFetch();
  manager_.OnFetched(x_, first.number, "");
  Fetched second = TakeFetch();
  Fetched third = TakeFetch();
  manager_.OnFetched(x_, second.number, "the stream broke");
  EXPECT_TRUE(fetches_.empty()) << "nothing more from there";
  EXPECT_TRUE(asked_.empty()) << "a chunk is still on its way";
  manager_.OnFetched(x_, third.number, "");
  ASSERT_EQ(ended_.size(), 1u);
  EXPECT_FALSE(ended_[0].fetched);
  const Asked ask = TakeAsk();
  EXPECT_EQ(ask.node, b_);
  Answer(ask, Ready(400));
  EXPECT_EQ(reserved_.size(), 1u) << "it keeps its memory";
  std::set<uint64_t> offsets;
  while (!fetches_.empty()) {
    const Fetched fetch = TakeFetch();
    EXPECT_EQ(fetch.node, b_);
    offsets.insert(fetch.part.offset);
    manager_.OnFetched(x_, fetch.number, "");
  }
  EXPECT_EQ(offsets, (std::set<uint64_t>{second.part.offset, 300}));
  EXPECT_EQ(sealed_.size(), 1u);
}

TEST_F(PullManagerTest, SourceThatBreaksAgainAndAgainIsGivenUp) {
  Pull({x_}, {a_});
  for (int attempt = 0; attempt < 3; ++attempt) {
    ASSERT_TRUE(failed_.empty());
    Answer(TakeAsk(), {.outcome = Outcome::kBroken, .reason = "no route"});
    clock_.Advance(absl::Seconds(1));
    manager_.Tick();
  }
  ASSERT_EQ(failed_.size(), 1u);
  EXPECT_THAT(failed_[0].reason, HasSubstr("no route"));
}

TEST_F(PullManagerTest, ProgressForgivesABrokenSource) {
  Pull({x_}, {a_});
  Begin(1000);
  for (int attempt = 0; attempt < 6; ++attempt) {
    Fetched good = TakeFetch();
    manager_.OnFetched(x_, good.number, "");
    while (!fetches_.empty()) manager_.OnFetched(x_, TakeFetch().number, "broke");
    clock_.Advance(absl::Seconds(1));
    manager_.Tick();
    Answer(TakeAsk(), Ready(1000));
  }
  FetchAll();
  EXPECT_EQ(sealed_.size(), 1u);
  EXPECT_TRUE(failed_.empty());
}

TEST_F(PullManagerTest, CopyOfAnotherSizeIsNotMixedIn) {
  Pull({x_}, {a_, b_});
  Begin(400);
  while (!fetches_.empty()) manager_.OnFetched(x_, TakeFetch().number, "broke");
  Answer(TakeAsk(), Ready(300));
  EXPECT_EQ(ended_.back().node, b_);
  EXPECT_TRUE(fetches_.empty());
}

TEST_F(PullManagerTest, AdmitsMemoryInOrderAndOneLargeObjectAlone) {
  const ObjectId z = ObjectId::Random();
  Pull({x_, y_, z}, {a_});
  const Asked x = TakeAsk();
  const Asked y = TakeAsk();
  Answer(TakeAsk(), Ready(100));
  EXPECT_EQ(reserved_.size(), 1u) << "the first whose size is known";
  Answer(x, Ready(950));
  Answer(y, Ready(5000));
  EXPECT_EQ(reserved_.size(), 1u) << "neither fits beside z";
  manager_.OnReserved(z);
  FetchAll();
  ASSERT_EQ(reserved_.size(), 2u);
  EXPECT_EQ(reserved_[1], x_);
  manager_.OnReserved(x_);
  FetchAll();
  ASSERT_EQ(reserved_.size(), 3u);
  EXPECT_EQ(reserved_[2], y_) << "larger than the limit, but alone";
}

TEST_F(PullManagerTest, GetsPassPrefetches) {
  const ObjectId z = ObjectId::Random();
  Pull({x_}, {a_}, PullPriority::kPrefetch);
  Begin(900);
  Pull({y_}, {a_}, PullPriority::kPrefetch);
  Answer(TakeAsk(), Ready(900));
  Pull({z}, {a_});
  Answer(TakeAsk(), Ready(900));
  EXPECT_EQ(reserved_.size(), 1u);
  FetchAll();
  ASSERT_EQ(reserved_.size(), 2u);
  EXPECT_EQ(reserved_[1], z);
}

TEST_F(PullManagerTest, GetOfWhatIsPrefetchedMovesItAhead) {
  const ObjectId z = ObjectId::Random();
  Pull({x_}, {a_}, PullPriority::kPrefetch);
  Begin(900);
  Pull({y_}, {a_}, PullPriority::kPrefetch);
  Answer(TakeAsk(), Ready(900));
  Pull({z}, {a_}, PullPriority::kPrefetch);
  Answer(TakeAsk(), Ready(900));
  Pull({z}, {b_});
  FetchAll();
  ASSERT_EQ(reserved_.size(), 2u);
  EXPECT_EQ(reserved_[1], z);
}

TEST_F(PullManagerTest, PullHasTheRankOfThoseThatStillWait) {
  const auto first = Pull({x_}, {a_});
  Begin(10);
  FetchAll();
  EXPECT_EQ(sealed_.size(), 1u);
  Pull({ObjectId::Random(), ObjectId::Random(), ObjectId::Random(), y_}, {a_});
  EXPECT_EQ(asked_.size(), 3u) << "y must wait";
  Pull({x_}, {a_});
  manager_.Cancel(first);
  manager_.OnEvicted(x_);
  Answer(TakeAsk(), {.outcome = Outcome::kAbsent});
  EXPECT_EQ(asked_.back().id, y_) << "it was asked for before those that wait for x now";
}

TEST_F(PullManagerTest, AsksForOnlySoManyObjectsAhead) {
  std::vector<ObjectId> ids(10);
  for (ObjectId& id : ids) id = ObjectId::Random();
  Pull(ids, {a_});
  EXPECT_EQ(asked_.size(), 3u);
}

TEST_F(PullManagerTest, CancelEndsWhatHasNotBegunAndFinishesWhatHas) {
  const auto asking = Pull({x_}, {a_});
  const Asked late = TakeAsk();
  manager_.Cancel(asking);
  ASSERT_EQ(ended_.size(), 1u);
  EXPECT_EQ(manager_.pulls(), 0u);
  Answer(late, Ready(100));  // comes late: nothing happens
  EXPECT_TRUE(reserved_.empty());

  const auto fetching = Pull({y_}, {a_});
  Begin(300);
  manager_.Cancel(fetching);
  manager_.Cancel(fetching);
  FetchAll();
  EXPECT_EQ(sealed_.size(), 1u);
  EXPECT_TRUE(held_.empty());
  EXPECT_EQ(manager_.pulls(), 0u);
}

TEST_F(PullManagerTest, AnswersThatComeTwiceChangeNothing) {
  Pull({x_}, {a_});
  const Asked ask = TakeAsk();
  Answer(ask, Ready(200));
  Answer(ask, Ready(200));
  Answer(ask, {.outcome = Outcome::kAbsent});
  EXPECT_EQ(reserved_.size(), 1u);
  manager_.OnReserved(x_);
  manager_.OnReserved(x_);
  manager_.OnNoMemory(x_, "full");
  const Fetched first = TakeFetch();
  manager_.OnFetched(x_, first.number, "");
  manager_.OnFetched(x_, first.number, "");
  EXPECT_TRUE(sealed_.empty());
  FetchAll();
  EXPECT_EQ(sealed_.size(), 1u);
  manager_.OnFetched(x_, first.number, "broke");
  EXPECT_TRUE(failed_.empty());
}

TEST_F(PullManagerTest, DeathOfANodeSendsItsPullsToOthers) {
  Pull({x_}, {a_, b_});
  Pull({y_}, {a_});
  Begin(200);
  const Asked asked = TakeAsk();
  manager_.NodeGone(a_);
  ASSERT_EQ(failed_.size(), 1u);
  EXPECT_EQ(failed_[0].id, y_);
  EXPECT_THAT(failed_[0].reason, HasSubstr("died"));
  Answer(asked, Ready(1));
  while (!fetches_.empty()) manager_.OnFetched(x_, TakeFetch().number, "broke");
  const Asked next = TakeAsk();
  EXPECT_EQ(next.node, b_);
  Answer(next, Ready(200));
  FetchAll();
  EXPECT_EQ(sealed_.size(), 1u);
}

TEST_F(PullManagerTest, NoMemoryFailsWithItsReason) {
  Pull({x_}, {a_});
  Answer(TakeAsk(), Ready(200));
  manager_.OnNoMemory(x_, "the store is full");
  ASSERT_EQ(failed_.size(), 1u);
  EXPECT_EQ(failed_[0].failure, PullFailure::kNoMemory);
  EXPECT_EQ(failed_[0].reason, "the store is full");
  EXPECT_EQ(manager_.fetching_bytes(), 0u);
  EXPECT_EQ(ended_.size(), 1u);
}

TEST_F(PullManagerTest, ObjectThatAppearsMeanwhileIsNotFetched) {
  Pull({x_}, {a_});
  Answer(TakeAsk(), Ready(200));
  manager_.OnExists(x_);
  EXPECT_TRUE(fetches_.empty());
  EXPECT_FALSE(ended_[0].fetched);
  EXPECT_EQ(manager_.fetching_bytes(), 0u);
}

TEST_F(PullManagerTest, OnlyTheFirstRequestHoldsItsCopies) {
  const auto first = Pull({x_}, {a_});
  const auto second = Pull({y_}, {a_});
  Begin(100);
  Begin(100);
  FetchAll();
  EXPECT_EQ(held_, std::set<std::string>{x_.Hex()});
  manager_.OnEvicted(y_);
  Begin(100);
  manager_.Cancel(first);
  EXPECT_TRUE(held_.empty());
  FetchAll();
  EXPECT_EQ(held_, std::set<std::string>{y_.Hex()}) << "fetched again for who is first now";
  manager_.Revoke();
  EXPECT_TRUE(held_.empty());
  manager_.OnEvicted(y_);
  EXPECT_EQ(asked_.size(), 1u) << "it is still wanted";
  manager_.Cancel(second);
  EXPECT_EQ(manager_.pulls(), 0u);
}

TEST_F(PullManagerTest, CopyInTheMakingIsFetchedAsFarAsItIs) {
  Pull({x_}, {a_});
  Answer(TakeAsk(), Partial(350, 150, 0));
  manager_.OnReserved(x_);
  ASSERT_EQ(fetches_.size(), 1u) << "the second chunk is not complete there";
  ASSERT_EQ(asked_more_.size(), 1u);
  EXPECT_EQ(asked_more_[0].known_bytes, 150u);
  FetchAll();
  EXPECT_EQ(asked_more_.size(), 1u) << "one question at a time";
  EXPECT_TRUE(sealed_.empty());
  manager_.OnMore(x_, asked_more_[0].number, 300);
  EXPECT_EQ(fetches_.size(), 2u);
  manager_.OnMore(x_, asked_more_[0].number, 350);
  EXPECT_EQ(asked_more_.back().known_bytes, 300u) << "an answer that comes twice changes nothing";
  FetchAll();
  manager_.OnMore(x_, asked_more_.back().number, UINT64_MAX);
  FetchAll();
  EXPECT_EQ(asked_more_.size(), 2u);
  EXPECT_EQ(sealed_.size(), 1u);
}

TEST_F(PullManagerTest, CopyThatWillNotBeCompletedIsGivenUpForAnotherSource) {
  Pull({x_}, {a_, b_});
  Answer(TakeAsk(), Partial(350, 100, 4));
  manager_.OnReserved(x_);
  ASSERT_EQ(asked_more_.size(), 1u);
  manager_.OnMore(x_, asked_more_[0].number, 0);
  EXPECT_TRUE(asked_.empty()) << "a chunk is still on its way";
  FetchAll();
  ASSERT_EQ(ended_.size(), 1u);
  const Asked second = TakeAsk();
  EXPECT_EQ(second.node, b_);
  Answer(second, Ready(350));
  ASSERT_EQ(fetches_.size(), 2u);
  EXPECT_EQ(fetches_.front().part.offset, 100u);
  FetchAll();
  EXPECT_EQ(sealed_.size(), 1u);
}

TEST_F(PullManagerTest, CopyInTheMakingIsASourceOnceItHasMemory) {
  Pull({x_}, {a_, b_});
  const Asked ask = TakeAsk();
  EXPECT_FALSE(manager_.FindPartial(x_).has_value());
  Answer(ask, Partial(350, UINT64_MAX, 2));
  EXPECT_FALSE(manager_.FindPartial(x_).has_value()) << "it waits for memory";
  manager_.OnReserved(x_);
  const auto begun = manager_.FindPartial(x_);
  ASSERT_TRUE(begun.has_value());
  EXPECT_EQ(begun->available_bytes, 0u);
  EXPECT_EQ(begun->tier, 3u);
  const Fetched first = TakeFetch();
  const Fetched second = TakeFetch();
  manager_.OnFetched(x_, second.number, "");
  EXPECT_EQ(manager_.FindPartial(x_)->available_bytes, 0u) << "the first chunk is missing";
  manager_.OnFetched(x_, first.number, "");
  EXPECT_EQ(manager_.FindPartial(x_)->available_bytes, 200u);
  FetchAll();
  EXPECT_FALSE(manager_.FindPartial(x_).has_value()) << "complete";
}

TEST_F(PullManagerTest, NoTwoCopiesInTheMakingWaitForEachOther) {
  Pull({x_}, {a_, b_});
  const Asked first = TakeAsk();
  EXPECT_EQ(first.tier_below, 0u) << "nobody fetches from here yet";
  Answer(first, Partial(350, 200, 1));
  manager_.OnReserved(x_);
  manager_.OnFetched(x_, TakeFetch().number, "");
  manager_.OnFetched(x_, TakeFetch().number, "it broke");
  const Asked second = TakeAsk();
  EXPECT_EQ(second.tier_below, 2u) << "others may fetch from here";
  Answer(second, Partial(350, 200, 2));
  EXPECT_TRUE(fetches_.empty());
  EXPECT_EQ(ended_.size(), 2u) << "it was granted, and is given back";
  EXPECT_EQ(ended_.back().node, b_);
  clock_.Advance(absl::Seconds(1));
  manager_.Tick();
  const Asked third = TakeAsk();
  EXPECT_EQ(third.node, a_);
  Answer(third, Partial(350, UINT64_MAX, 0));
  EXPECT_EQ(manager_.FindPartial(x_)->tier, 2u) << "those that fetch from here rely on it";
  FetchAll();
  EXPECT_EQ(sealed_.size(), 1u);
}

TEST_F(PullManagerTest, CopyThatIsHereIsFetchedOnceItIsEvicted) {
  manager_.Pull({{.id = x_, .sources = {a_}, .here = true}}, PullPriority::kGet);
  EXPECT_TRUE(asked_.empty());
  manager_.OnEvicted(x_);
  EXPECT_EQ(TakeAsk().node, a_);
}

}  // namespace
}  // namespace ray::transfer
