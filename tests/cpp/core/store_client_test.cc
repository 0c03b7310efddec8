#include "ray/core/store_client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "ray/base/check.h"
#include "ray/net/connection_testutil.h"
#include "ray/net/event_loop_testutil.h"
#include "ray/net/parse_frame.h"

namespace ray::core {
namespace {

using ::testing::ElementsAre;

// A raylet that has every object, and notes what it is asked, in order.
class StoreClientTest : public ::testing::Test {
 protected:
  StoreClientTest() {
    auto [ours, theirs] = net::MakeSocketPair();
    connection_ = net::Connection::Create(&loop_, std::move(ours), {});
    connection_->Start({});
    raylet_ = net::Connection::Create(&loop_, std::move(theirs), {});
    raylet_->Start({.on_frame = [this](const std::shared_ptr<net::Connection>& on,
                                       const net::Frame& frame) { OnFrame(on, frame); }});
    auto memory = store::SharedMemory::Create(1 << 20);
    MANTA_CHECK(memory.ok());
    client_.emplace(connection_, std::shared_ptr<store::SharedMemory>(*std::move(memory)), node_,
                    &clock_, [this](const base::ObjectId& id) { ended_.push_back(id); });
  }

  static base::ObjectId Id(uint32_t number) {
    return base::PutObjectId(base::MakeTaskId(1, base::ActorId()), number);
  }
  PinnedObjectPtr Get(uint32_t number) {
    PinnedObjectPtr pin;
    bool answered = false;
    client_->Fetch({{Id(number), {}}}, [&](std::vector<FetchedObject> fetched) {
      pin = fetched[0].pin;
      answered = true;
    });
    EXPECT_TRUE(net::PollUntil(&loop_, [&] { return answered; }));
    EXPECT_NE(pin, nullptr);
    return pin;
  }
  // The pins that ended are released, as the core worker does from its queue.
  void ReleaseEnded(bool may_rest = true) {
    for (const base::ObjectId& id : std::exchange(ended_, {})) client_->Release(id, may_rest);
  }
  // What the raylet has heard since the last time.
  std::vector<std::string> Heard() {
    client_->Flush();
    const size_t sync = syncs_ + 1;
    connection_->Send(wire::v1::STORE_STATS, wire::v1::StoreStats());
    EXPECT_TRUE(net::PollUntil(&loop_, [&] { return syncs_ == sync; }));
    return std::exchange(heard_, {});
  }

  net::EventLoop loop_;
  base::VirtualClock clock_;
  std::optional<StoreClient> client_;
  const base::NodeId node_ = base::NodeId::Random();

 private:
  void OnFrame(const std::shared_ptr<net::Connection>& on, const net::Frame& frame) {
    switch (frame.type) {
      case wire::v1::STORE_GET: {
        auto request = net::ParseMetadata<wire::v1::StoreGet>(frame);
        wire::v1::StoreGetReply reply;
        for (const std::string& id : request->object_ids()) {
          Note("get", id);
          reply.add_entries()->set_present(true);
          reply.mutable_entries()->rbegin()->set_size_bytes(8);
        }
        return on->Reply(frame.type, frame.correlation_id, reply);
      }
      case wire::v1::STORE_RELEASE:
      case wire::v1::STORE_FREE: {
        auto message = net::ParseMetadata<wire::v1::StoreIds>(frame);
        for (const std::string& id : message->object_ids()) {
          Note(frame.type == wire::v1::STORE_FREE ? "free" : "release", id);
        }
        return;
      }
      case wire::v1::STORE_CREATE:
        heard_.push_back("create");
        return;
      default:
        ++syncs_;
    }
  }
  void Note(const std::string& what, const std::string& id) {
    for (uint32_t number = 0; number < 100; ++number) {
      if (Id(number).BinaryString() == id) heard_.push_back(what + " " + std::to_string(number));
    }
  }

  std::shared_ptr<net::Connection> connection_;
  std::shared_ptr<net::Connection> raylet_;
  std::vector<base::ObjectId> ended_;
  std::vector<std::string> heard_;
  size_t syncs_ = 0;
};

TEST_F(StoreClientTest, GetOfWhatIsHeldAsksNobody) {
  const PinnedObjectPtr pin = Get(1);
  EXPECT_EQ(Get(1), pin);
  EXPECT_THAT(Heard(), ElementsAre("get 1"));
}

TEST_F(StoreClientTest, RestingPinIsTakenUpAgainWithoutARoundTrip) {
  for (int i = 0; i < 3; ++i) {
    Get(1);
    ReleaseEnded();
  }
  EXPECT_THAT(Heard(), ElementsAre("get 1"));
}

TEST_F(StoreClientTest, PinThatMayNotRestIsReleased) {
  Get(1);
  ReleaseEnded(/*may_rest=*/false);
  EXPECT_FALSE(client_->EndRests());
  EXPECT_THAT(Heard(), ElementsAre("get 1", "release 1"));
}

// REST-1
TEST_F(StoreClientTest, PinGoesBackInTimeHoweverOftenItIsUsed) {
  for (int i = 0; i < 10; ++i) {
    Get(1);
    ReleaseEnded();
    clock_.Advance(StoreClient::kRestMax / 10);
    EXPECT_EQ(client_->EndRests(), i < 9);
  }
  EXPECT_THAT(Heard(), ElementsAre("get 1", "release 1"));
}

TEST_F(StoreClientTest, PinThatWasHeldForLongDoesNotRest) {
  PinnedObjectPtr pin = Get(1);
  clock_.Advance(StoreClient::kRestMax);
  pin = nullptr;
  ReleaseEnded();
  EXPECT_THAT(Heard(), ElementsAre("get 1", "release 1"));
}

TEST_F(StoreClientTest, WhatIsInUseDoesNotGoBack) {
  Get(1);
  ReleaseEnded();
  const PinnedObjectPtr pin = Get(1);
  clock_.Advance(2 * StoreClient::kRestMax);
  EXPECT_FALSE(client_->EndRests());
  EXPECT_THAT(Heard(), ElementsAre("get 1"));
}

// REST-2
TEST_F(StoreClientTest, WhatRestsGoesBackBeforeTheStoreIsAskedForAnything) {
  Get(1);
  ReleaseEnded();
  Get(2);
  EXPECT_THAT(Heard(), ElementsAre("get 1", "release 1", "get 2"));
  ReleaseEnded();
  client_->Create(Id(3), 8, WorkerAddress(), "", [](absl::StatusOr<StoreClient::Destination>) {});
  EXPECT_THAT(Heard(), ElementsAre("release 2", "create"));
}

TEST_F(StoreClientTest, WhatRestsGoesBackWithItsObject) {
  Get(1);
  ReleaseEnded();
  client_->Free(Id(1), node_);
  EXPECT_FALSE(client_->EndRests());
  EXPECT_THAT(Heard(), ElementsAre("get 1", "release 1", "free 1"));
}

// REST-3
TEST_F(StoreClientTest, FewRestAtATime) {
  std::vector<PinnedObjectPtr> pins;
  for (uint32_t i = 0; i <= StoreClient::kRestingMax; ++i) pins.push_back(Get(i));
  EXPECT_EQ(Heard().size(), StoreClient::kRestingMax + 1);
  pins.clear();
  ReleaseEnded();
  EXPECT_THAT(Heard(), ElementsAre("release 0"));
}

// Each of two requests at the same time takes a pin; each is given back.
TEST_F(StoreClientTest, EveryPinIsGivenBackOnce) {
  std::vector<PinnedObjectPtr> pins;
  for (int i = 0; i < 2; ++i) {
    client_->Fetch({{Id(1), {}}}, [&](std::vector<FetchedObject> fetched) {
      pins.push_back(std::move(fetched[0].pin));
    });
  }
  ASSERT_TRUE(net::PollUntil(&loop_, [&] { return pins.size() == 2; }));
  EXPECT_THAT(Heard(), ElementsAre("get 1", "get 1"));
  pins.clear();
  ReleaseEnded();
  EXPECT_THAT(Heard(), ElementsAre("release 1"));
  clock_.Advance(StoreClient::kRestMax);
  EXPECT_FALSE(client_->EndRests());
  EXPECT_THAT(Heard(), ElementsAre("release 1"));
}

}  // namespace
}  // namespace ray::core
