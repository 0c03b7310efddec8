// Objects between nodes, as their clients see it: two and more raylets on one loop, with real
// sockets, streams and shared memory.
#include <gmock/gmock.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <optional>
#include <thread>

#include "absl/strings/match.h"
#include "ray/store/shared_memory.h"
#include "tests/cpp/integration/raylet_fixture.h"

namespace ray::raylet {
namespace {

using base::NodeId;
using base::ObjectId;
using ::testing::HasSubstr;
using namespace wire::v1;  // NOLINT: the messages of this test

constexpr uint64_t kStoreBytes = 64 << 20;

class RayletTransferTest : public RayletFixture {
 protected:
  // A driver that has mapped its node's store.
  struct Program {
    std::unique_ptr<TestClient> client;
    std::unique_ptr<store::SharedMemory> memory;
    Address address;
  };
  struct Node {
    std::unique_ptr<Raylet> raylet;
    std::string id() const { return raylet->identity().id.BinaryString(); }
  };

  void SetUp() override {
    char path[] = "/tmp/raylet_testXXXXXX";
    session_ = mkdtemp(path);
    config_.worker_prestart_max = 0;
    config_.node_dead_timeout_ms = 300;
    config_.object_store_full_timeout_ms = 1000;
    config_.object_transfer_chunk_bytes = 1 << 20;
    StartGcs();
    a_ = Start("a");
    b_ = Start("b");
    ASSERT_TRUE(WaitUntilTheyKnowEachOther(*a_.raylet, *b_.raylet));
  }
  void TearDown() override {
    a_.raylet.reset();
    b_.raylet.reset();
    RayletFixture::TearDown();
  }

  Node Start(const std::string& name, uint64_t store_bytes = kStoreBytes) {
    const std::string session = session_ + "/" + name;
    std::filesystem::create_directories(session + "/logs");
    return {MakeRaylet(session, {{"CPU", 1}}, {}, store_bytes)};
  }

  Program StartProgram(const Node& node) {
    auto fd = net::Connect(node.raylet->identity().endpoint, absl::Seconds(5));
    Hello hello;
    hello.set_protocol_version(net::kProtocolVersion);
    hello.set_kind(DRIVER);
    const base::WorkerId id = base::WorkerId::Random();
    hello.set_worker_id(id.BinaryString());
    absl::StatusOr<net::HandshakeResult> result;
    std::atomic<bool> done = false;
    std::thread thread([&] {
      result = net::BlockingHandshake(fd->get(), hello, HELLO, ERROR, absl::Seconds(10));
      done = true;
    });
    Poll([&] { return done.load(); });
    thread.join();
    EXPECT_TRUE(result.ok()) << result.status();
    HelloReply welcome;
    EXPECT_TRUE(welcome.ParseFromString(result->reply_metadata));
    auto memory =
        store::SharedMemory::Map(std::move(result->received_fd), welcome.store_capacity_bytes());
    EXPECT_TRUE(memory.ok()) << memory.status();
    Program program{std::make_unique<TestClient>(&loop_, *std::move(fd), result->already_read),
                    *std::move(memory)};
    program.client->id = id;
    program.address.set_node_id(node.id());
    program.address.set_worker_id(id.BinaryString());
    return program;
  }

  static uint64_t Pattern(const ObjectId& id, uint64_t word) {
    uint64_t seed;
    std::memcpy(&seed, id.data(), sizeof seed);
    return (seed + word) * 0x9e3779b97f4a7c15;
  }
  static void Fill(std::byte* at, const ObjectId& id, uint64_t size) {
    std::vector<uint64_t> words(size / 8 + 1);
    for (uint64_t i = 0; i < words.size(); ++i) words[i] = Pattern(id, i);
    std::memcpy(at, words.data(), size);
  }
  static void Fill(const Program& program, const ObjectId& id, uint64_t offset, uint64_t size) {
    Fill(program.memory->At(offset), id, size);
  }
  // The file is in this process, which has all raylets in it.
  static absl::StatusOr<std::unique_ptr<store::SharedMemory>> MapFile(const std::string& path,
                                                                      store::Extent extent) {
    auto file = store::SharedMemory::MapFile(path, extent, store::SharedMemory::Access::kWrite);
    EXPECT_TRUE(file.ok()) << file.status();
    return file;
  }
  static bool HasItsBytes(const Program& program, const ObjectId& id,
                          const StoreGetReply::Entry& entry) {
    const store::SharedMemory* memory = program.memory.get();
    uint64_t offset = entry.offset();
    absl::StatusOr<std::unique_ptr<store::SharedMemory>> file;
    if (!entry.path().empty()) {
      file = MapFile(entry.path(), {entry.offset(), entry.size_bytes()});
      memory = file->get();
      offset = 0;
    }
    for (uint64_t i = 0; i < entry.size_bytes() / 8; ++i) {
      uint64_t word;
      std::memcpy(&word, memory->At(offset + 8 * i), 8);
      if (word != Pattern(id, i)) return false;
    }
    return true;
  }

  ObjectId Put(Program& program, uint64_t size, const Address* owner = nullptr) {
    const ObjectId id = ObjectId::Random();
    const StoreCreateReply created = Create(program, id, size, owner);
    EXPECT_EQ(created.outcome(), StoreCreateReply::CREATED) << created.message();
    if (created.path().empty()) {
      Fill(program, id, created.offset(), size);
    } else {
      Fill((*MapFile(created.path(), {created.offset(), size}))->At(0), id, size);
    }
    StoreSeal seal;
    seal.set_object_id(id.BinaryString());
    program.client->Send(STORE_SEAL, seal);
    Release(program, id);
    return id;
  }
  StoreCreateReply Create(Program& program, const ObjectId& id, uint64_t size,
                          const Address* owner = nullptr) {
    StoreCreate create;
    create.set_object_id(id.BinaryString());
    create.set_size_bytes(size);
    *create.mutable_owner() = owner == nullptr ? program.address : *owner;
    create.set_note("put");
    return program.client->Call<StoreCreateReply>(STORE_CREATE, create);
  }
  static StoreGet GetOf(const std::vector<ObjectId>& ids, const std::vector<std::string>& nodes,
                        int64_t timeout_ms = -1) {
    StoreGet get;
    get.set_timeout_ms(timeout_ms);
    for (const ObjectId& id : ids) {
      get.add_object_ids(id.BinaryString());
      ObjectSource* source = get.add_sources();
      for (const std::string& node : nodes) source->add_node_ids(node);
    }
    return get;
  }
  StoreGetReply Get(Program& program, const std::vector<ObjectId>& ids,
                    const std::vector<std::string>& nodes, int64_t timeout_ms = -1) {
    return program.client->Call<StoreGetReply>(STORE_GET, GetOf(ids, nodes, timeout_ms));
  }
  StoreGetReply::Entry GetOne(Program& program, const ObjectId& id,
                              const std::vector<std::string>& nodes, int64_t timeout_ms = -1) {
    const StoreGetReply reply = Get(program, {id}, nodes, timeout_ms);
    return reply.entries_size() == 1 ? reply.entries(0) : StoreGetReply::Entry();
  }
  static void Release(Program& program, const ObjectId& id) {
    StoreIds ids;
    ids.add_object_ids(id.BinaryString());
    program.client->Send(STORE_RELEASE, ids);
  }
  static void Push(Program& program, const std::vector<ObjectId>& ids, const std::string& node) {
    StorePush message;
    for (const ObjectId& id : ids) message.add_object_ids(id.BinaryString());
    message.set_node_id(node);
    program.client->Send(STORE_PUSH, message);
  }
  StoreStatsReply Stats(Program& program) {
    return program.client->Call<StoreStatsReply>(STORE_STATS, StoreStats());
  }
  // Other nodes have given back the pins of what they fetched from the program's node.
  bool IsReleasedByOthers(Program& program) {
    return Poll(
        [&] { return !absl::StrContains(Stats(program).breakdown(), "fetched by other nodes"); });
  }

  Node a_;
  Node b_;
};

TEST_F(RayletTransferTest, ObjectIsFetchedFromWhereItIs) {
  Program on_a = StartProgram(a_);
  Program on_b = StartProgram(b_);
  const ObjectId id = Put(on_a, (10 << 20) + 12'345);
  const auto entry = GetOne(on_b, id, {a_.id()});
  ASSERT_TRUE(entry.present()) << entry.reason();
  EXPECT_EQ(entry.size_bytes(), (10u << 20) + 12'345);
  EXPECT_TRUE(HasItsBytes(on_b, id, entry));
  EXPECT_TRUE(IsReleasedByOthers(on_a));
}

TEST_F(RayletTransferTest, NodeOfAnotherMachineIsDialed) {
  Program on_a = StartProgram(a_);
  Program on_b = StartProgram(b_);
  std::filesystem::remove(session_ + "/a/raylet");  // as if it were elsewhere
  std::vector<ObjectId> ids;
  for (int i = 0; i < 5; ++i) ids.push_back(Put(on_a, (3 << 20) + 8 * i));
  const StoreGetReply reply = Get(on_b, ids, {a_.id()});
  ASSERT_EQ(reply.entries_size(), 5);
  for (int i = 0; i < 5; ++i) {
    ASSERT_TRUE(reply.entries(i).present()) << reply.entries(i).reason();
    EXPECT_TRUE(HasItsBytes(on_b, ids[static_cast<size_t>(i)], reply.entries(i)));
  }
  EXPECT_TRUE(IsReleasedByOthers(on_a));
}

TEST_F(RayletTransferTest, ManySmallObjectsAreFetchedByOneRequest) {
  Program on_a = StartProgram(a_);
  Program on_b = StartProgram(b_);
  std::vector<ObjectId> ids;
  for (int i = 0; i < 200; ++i) ids.push_back(Put(on_a, 1000 + 8 * i));
  const StoreGetReply reply = Get(on_b, ids, {b_.id(), a_.id()});
  ASSERT_EQ(reply.entries_size(), 200);
  for (int i = 0; i < 200; ++i) {
    ASSERT_TRUE(reply.entries(i).present());
    EXPECT_TRUE(HasItsBytes(on_b, ids[static_cast<size_t>(i)], reply.entries(i)));
  }
}

TEST_F(RayletTransferTest, ObjectThatIsNowhereIsLostAndCanComeLater) {
  Program on_a = StartProgram(a_);
  Program on_b = StartProgram(b_);
  const ObjectId nowhere = ObjectId::Random();
  const ObjectId here = Put(on_a, 1000);
  const StoreGetReply reply = Get(on_b, {nowhere, here}, {a_.id()});
  EXPECT_EQ(reply.entries(0).absence(), StoreGetReply::Entry::LOST);
  EXPECT_THAT(reply.entries(0).reason(), HasSubstr("no copy"));
  EXPECT_TRUE(reply.entries(1).present());
  EXPECT_EQ(GetOne(on_b, nowhere, {b_.id()}).absence(), StoreGetReply::Entry::LOST);
  // Computed again, it is an object like any other.
  const StoreCreateReply created = Create(on_a, nowhere, 800);
  Fill(on_a, nowhere, created.offset(), 800);
  StoreSeal seal;
  seal.set_object_id(nowhere.BinaryString());
  on_a.client->Send(STORE_SEAL, seal);
  const auto entry = GetOne(on_b, nowhere, {a_.id()});
  ASSERT_TRUE(entry.present()) << entry.reason();
  EXPECT_TRUE(HasItsBytes(on_b, nowhere, entry));
}

TEST_F(RayletTransferTest, FreeReachesTheOtherNode) {
  Program on_a = StartProgram(a_);
  Program on_b = StartProgram(b_);
  const ObjectId id = Put(on_a, 1 << 20);
  ASSERT_TRUE(GetOne(on_b, id, {a_.id()}).present());
  Release(on_b, id);
  StoreIds ids;
  ids.add_object_ids(id.BinaryString());
  ids.set_node_id(b_.id());
  on_a.client->Send(STORE_FREE, ids);
  EXPECT_TRUE(Poll([&] { return Stats(on_b).objects() == 0; }));
  EXPECT_EQ(Stats(on_a).objects(), 1u);
  EXPECT_EQ(GetOne(on_b, id, {}).absence(), StoreGetReply::Entry::GONE);
}

TEST_F(RayletTransferTest, OwnersDeathFreesItsObjectsOnOtherNodes) {
  Program on_a = StartProgram(a_);
  Program on_b = StartProgram(b_);
  Put(on_b, 1 << 20, &on_a.address);
  const ObjectId fetched = Put(on_a, 1 << 20);
  ASSERT_TRUE(GetOne(on_b, fetched, {a_.id()}).present());
  Release(on_b, fetched);
  EXPECT_EQ(Stats(on_b).objects(), 2u);
  on_a.client->Close();
  EXPECT_TRUE(Poll([&] { return Stats(on_b).objects() == 0; }));
  // One that is created for it later goes at once.
  Put(on_b, 1 << 20, &on_a.address);
  EXPECT_TRUE(Poll([&] { return Stats(on_b).objects() == 0; }));
}

TEST_F(RayletTransferTest, OwnersDieWithTheirNode) {
  Program on_a = StartProgram(a_);
  Program on_b = StartProgram(b_);
  Put(on_b, 1 << 20, &on_a.address);
  on_a.client.reset();
  a_.raylet.reset();
  EXPECT_TRUE(Poll([&] { return Stats(on_b).objects() == 0; }));
}

TEST_F(RayletTransferTest, ObjectOfADeadNodeIsLost) {
  Program on_a = StartProgram(a_);
  Program on_b = StartProgram(b_);
  const ObjectId id = Put(on_a, 1 << 20);
  on_a.client.reset();
  a_.raylet.reset();
  const std::string dead = NodeId::Random().BinaryString();
  EXPECT_EQ(GetOne(on_b, id, {dead}).absence(), StoreGetReply::Entry::LOST);
}

TEST_F(RayletTransferTest, CreationOfWhatIsASecondaryCopyMakesItThePrimaryOne) {
  Program on_a = StartProgram(a_);
  Program on_b = StartProgram(b_);
  const ObjectId kept = Put(on_a, 20 << 20);
  const ObjectId dropped = Put(on_a, 20 << 20);
  ASSERT_TRUE(GetOne(on_b, kept, {a_.id()}).present());
  Release(on_b, kept);
  ASSERT_TRUE(GetOne(on_b, dropped, {a_.id()}).present());
  Release(on_b, dropped);
  EXPECT_EQ(Create(on_b, kept, 20 << 20).outcome(), StoreCreateReply::EXISTS);
  Put(on_b, 40 << 20);
  EXPECT_EQ(GetOne(on_b, dropped, {}, 0).present(), false) << "a copy that makes room";
  const auto entry = GetOne(on_b, kept, {}, 10'000);
  ASSERT_TRUE(entry.present()) << "perhaps from disk";
  EXPECT_TRUE(HasItsBytes(on_b, kept, entry));
}

TEST_F(RayletTransferTest, CopyThatWasDroppedIsNotWaitedFor) {
  Program on_a = StartProgram(a_);
  Program on_b = StartProgram(b_);
  const ObjectId id = Put(on_a, 20 << 20);
  ASSERT_TRUE(GetOne(on_b, id, {a_.id()}).present());
  Release(on_b, id);
  Put(on_b, 50 << 20);  // drops the copy, of which the owner does not hear
  EXPECT_EQ(GetOne(on_b, id, {}).absence(), StoreGetReply::Entry::LOST);
  EXPECT_EQ(GetOne(on_b, id, {b_.id()}).absence(), StoreGetReply::Entry::LOST);
  const auto entry = GetOne(on_b, id, {b_.id(), a_.id()});
  ASSERT_TRUE(entry.present()) << entry.reason();
  EXPECT_TRUE(HasItsBytes(on_b, id, entry));
}

TEST_F(RayletTransferTest, WhatWasFreedHereIsFetchedOnceItIsMadeAgainElsewhere) {
  Program on_a = StartProgram(a_);
  Program on_b = StartProgram(b_);
  const ObjectId id = Put(on_a, 1 << 20);
  ASSERT_TRUE(GetOne(on_b, id, {a_.id()}).present());
  Release(on_b, id);
  StoreIds ids;
  ids.add_object_ids(id.BinaryString());
  on_b.client->Send(STORE_FREE, ids);  // as when only its lineage was held
  EXPECT_EQ(GetOne(on_b, id, {}).absence(), StoreGetReply::Entry::GONE);
  const auto entry = GetOne(on_b, id, {a_.id()});
  ASSERT_TRUE(entry.present()) << entry.reason();
  EXPECT_TRUE(HasItsBytes(on_b, id, entry));
}

TEST_F(RayletTransferTest, PrefetchPinsNothingAndTakesMoreThanFits) {
  Program on_a = StartProgram(a_);
  Program on_b = StartProgram(b_);
  std::vector<ObjectId> ids;
  for (int i = 0; i < 5; ++i) ids.push_back(Put(on_a, 20 << 20));  // some of them go to disk
  StoreGet get = GetOf(ids, {a_.id()});
  get.set_prefetch(true);
  const StoreGetReply reply = on_b.client->Call<StoreGetReply>(STORE_GET, get);
  ASSERT_EQ(reply.entries_size(), 5);
  for (const auto& entry : reply.entries()) EXPECT_TRUE(entry.present()) << entry.reason();
  Put(on_b, 60 << 20);  // what was fetched makes room
}

TEST_F(RayletTransferTest, RequestThatDoesNotFitIsToldSo) {
  Program on_a = StartProgram(a_);
  Program on_b = StartProgram(b_);
  const ObjectId x = Put(on_a, 30 << 20);
  const ObjectId y = Put(on_a, 30 << 20);
  const ObjectId held = Put(on_b, 20 << 20);
  ASSERT_TRUE(GetOne(on_b, held, {}).present());
  const StoreGetReply reply = Get(on_b, {x, y}, {a_.id()});
  ASSERT_EQ(reply.entries_size(), 2);
  EXPECT_NE(reply.entries(0).present(), reply.entries(1).present());
  const auto& missing = reply.entries(reply.entries(0).present() ? 1 : 0);
  EXPECT_EQ(missing.absence(), StoreGetReply::Entry::NO_MEMORY) << missing.reason();
  Release(on_b, reply.entries(0).present() ? x : y);
  // Nothing is left of it.
  ASSERT_TRUE(GetOne(on_b, x, {a_.id()}).present());
}

TEST_F(RayletTransferTest, TimeoutAndClientsThatLeaveEndTheirRequests) {
  Program on_a = StartProgram(a_);
  Program on_b = StartProgram(b_);
  const ObjectId id = Put(on_a, 40 << 20);
  const auto soon = GetOne(on_b, id, {a_.id()}, 1);
  EXPECT_EQ(soon.absence(), StoreGetReply::Entry::ABSENCE_UNSPECIFIED);
  Program leaver = StartProgram(b_);
  leaver.client->Send(STORE_GET, GetOf({id}, {a_.id()}));
  leaver.client.reset();
  const auto entry = GetOne(on_b, id, {a_.id()});
  ASSERT_TRUE(entry.present()) << entry.reason();
  EXPECT_TRUE(HasItsBytes(on_b, id, entry));
}

TEST_F(RayletTransferTest, WhatOnlyRayletsAskClosesTheConnectionOfOthers) {
  const auto expect_closed = [&](FrameType type, const google::protobuf::MessageLite& message) {
    Program program = StartProgram(b_);
    program.client->Send(type, message);
    EXPECT_TRUE(program.client->WaitClosed()) << type;
  };
  PullBegin begin;
  begin.set_object_id(ObjectId::Random().BinaryString());
  expect_closed(PULL_BEGIN, begin);
  PullEnd end;
  end.set_object_id(ObjectId::Random().BinaryString());
  expect_closed(PULL_END, end);
  PushObject push;
  push.set_object_id(ObjectId::Random().BinaryString());
  expect_closed(PUSH_OBJECT, push);
  WatchWorker watch;
  watch.set_worker_id(base::WorkerId::Random().BinaryString());
  expect_closed(WATCH_WORKER, watch);
  StoreGet get = GetOf({ObjectId::Random(), ObjectId::Random()}, {a_.id()});
  get.mutable_sources()->RemoveLast();
  expect_closed(STORE_GET, get);
  StoreGet short_id = GetOf({ObjectId::Random()}, {"short"});
  expect_closed(STORE_GET, short_id);
}

TEST_F(RayletTransferTest, QuestionThatWasGivenUpIsAnsweredAllTheSame) {
  Program on_a = StartProgram(a_);
  const ObjectId spilled = Put(on_a, 40 << 20);
  Put(on_a, 40 << 20);
  auto raylet = net::Connection::Create(
      &loop_, *net::Connect(a_.raylet->identity().tcp_endpoint, absl::Seconds(5)), {},
      net::Connection::Role::kConnector);
  raylet->Start({.on_frame = [](const auto&, const net::Frame&) {},
                 .on_close = [](const auto&, const absl::Status&) {}});
  Hello hello;
  hello.set_protocol_version(net::kProtocolVersion);
  hello.set_kind(RAYLET);
  hello.set_node_id(NodeId::Random().BinaryString());
  bool welcome = false;
  raylet->Call(HELLO, hello,
               [&](const absl::StatusOr<net::Frame>& frame) { welcome = frame.ok(); });
  ASSERT_TRUE(Poll([&] { return welcome; }));
  PullBegin begin;
  begin.set_object_id(spilled.BinaryString());
  std::optional<PullBeginReply> answer;
  raylet->Call(PULL_BEGIN, begin, [&](absl::StatusOr<net::Frame> frame) {
    ASSERT_TRUE(frame.ok());
    answer.emplace().ParseFromString(std::string(frame->metadata));
  });
  PullEnd end;  // while it is being restored
  end.set_object_id(spilled.BinaryString());
  raylet->Send(PULL_END, end);
  ASSERT_TRUE(Poll([&] { return answer.has_value(); }));
  EXPECT_EQ(answer->outcome(), PullBeginReply::BUSY);
  EXPECT_TRUE(IsReleasedByOthers(on_a));
  raylet->Close(absl::CancelledError("the test closes it"));
}

// --- Larger than a store

TEST_F(RayletTransferTest, ObjectLargerThanTheReceivingStoreIsFetchedIntoAFile) {
  Program on_a = StartProgram(a_);
  const Node small = Start("small", 8 << 20);
  const Node other = Start("other", 8 << 20);
  Program on_small = StartProgram(small);
  const ObjectId id = Put(on_a, (30 << 20) + 12'345);
  const auto entry = GetOne(on_small, id, {a_.id()});
  ASSERT_TRUE(entry.present()) << entry.reason();
  EXPECT_NE(entry.path(), "");
  EXPECT_TRUE(HasItsBytes(on_small, id, entry));
  EXPECT_EQ(Stats(on_small).allocated_bytes(), 0u);
  EXPECT_TRUE(Poll([&] {
    return !absl::StrContains(Stats(on_a).breakdown(), "fetched by other nodes");
  })) << "its pin is given back";
  // From there on, to one that is as small; also over TCP.
  std::filesystem::remove(session_ + "/small/raylet");
  Program on_other = StartProgram(other);
  const auto again = GetOne(on_other, id, {small.id()});
  ASSERT_TRUE(again.present()) << again.reason();
  EXPECT_TRUE(HasItsBytes(on_other, id, again));
  Release(on_small, id);
  StoreIds ids;
  ids.add_object_ids(id.BinaryString());
  on_small.client->Send(STORE_FREE, ids);
  EXPECT_TRUE(Poll([&] { return Stats(on_small).objects() == 0; }));
}

TEST_F(RayletTransferTest, ObjectLargerThanAnyStoreReachesManyNodes) {
  std::vector<Node> nodes;
  std::vector<Program> programs;
  for (int i = 0; i < 4; ++i) nodes.push_back(Start(absl::StrCat("n", i), 8 << 20));
  for (const Node& node : nodes) programs.push_back(StartProgram(node));
  const ObjectId id = Put(programs[0], 20 << 20);
  std::vector<StoreGetReply> replies(4);
  size_t came = 0;
  for (size_t i = 1; i < 4; ++i) {
    programs[i].client->connection().Call(
        STORE_GET, GetOf({id}, {nodes[0].id()}), [&, i](absl::StatusOr<net::Frame> frame) {
          ASSERT_TRUE(frame.ok());
          replies[i].ParseFromString(std::string(frame->metadata));
          ++came;
        });
  }
  ASSERT_TRUE(Poll([&] { return came == 3; }));
  for (size_t i = 1; i < 4; ++i) {
    ASSERT_TRUE(replies[i].entries(0).present()) << replies[i].entries(0).reason();
    EXPECT_TRUE(HasItsBytes(programs[i], id, replies[i].entries(0)));
  }
  programs.clear();
}

// --- Ahead of being asked

TEST_F(RayletTransferTest, PushedObjectIsThereBeforeAnybodyAsks) {
  Program on_a = StartProgram(a_);
  Program on_b = StartProgram(b_);
  const ObjectId id = Put(on_a, 300'000);
  Push(on_a, {id, ObjectId::Random()}, b_.id());
  ASSERT_TRUE(Poll([&] { return Stats(on_b).objects() == 1; }));
  const auto entry = GetOne(on_b, id, {}, 0);
  ASSERT_TRUE(entry.present()) << entry.reason();
  EXPECT_TRUE(HasItsBytes(on_b, id, entry));
  // Again, and to who has it: nothing happens.
  Push(on_a, {id}, b_.id());
  Push(on_a, {id}, a_.id());
  EXPECT_EQ(Stats(on_a).objects(), 1u);
  StoreIds ids;
  ids.add_object_ids(id.BinaryString());
  ids.set_node_id(b_.id());
  Release(on_b, id);
  on_a.client->Send(STORE_FREE, ids);
  EXPECT_TRUE(Poll([&] { return Stats(on_b).objects() == 0; })) << "a copy like any other";
}

TEST_F(RayletTransferTest, PushAndPullOfOneObjectMeet) {
  Program on_a = StartProgram(a_);
  Program on_b = StartProgram(b_);
  for (int i = 0; i < 20; ++i) {
    const ObjectId id = Put(on_a, 200'000);
    on_b.client->connection().Call(STORE_GET, GetOf({id}, {a_.id()}),
                                   [](const absl::StatusOr<net::Frame>&) {});
    Push(on_a, {id}, b_.id());
    const auto entry = GetOne(on_b, id, {a_.id()});
    ASSERT_TRUE(entry.present()) << entry.reason();
    EXPECT_TRUE(HasItsBytes(on_b, id, entry));
  }
  EXPECT_EQ(Stats(on_b).objects(), 20u);
  EXPECT_TRUE(
      Poll([&] { return !absl::StrContains(Stats(on_a).breakdown(), "fetched by other nodes"); }));
}

TEST_F(RayletTransferTest, LargeObjectIsNotPushed) {
  Program on_a = StartProgram(a_);
  Program on_b = StartProgram(b_);
  const ObjectId large = Put(on_a, (1 << 20) + 8);
  const ObjectId small = Put(on_a, 1000);
  Push(on_a, {large, small}, b_.id());
  ASSERT_TRUE(Poll([&] { return Stats(on_b).objects() == 1; }));
  EXPECT_TRUE(GetOne(on_b, small, {}, 0).present());
  EXPECT_FALSE(GetOne(on_b, large, {}, 0).present());
  EXPECT_TRUE(GetOne(on_b, large, {a_.id()}).present());
}

TEST_F(RayletTransferTest, WhatComesUnaskedMakesNobodyMakeRoom) {
  Program on_a = StartProgram(a_);
  Program on_b = StartProgram(b_);
  const ObjectId held = Put(on_b, 52 << 20);  // over 0.8 of the store
  ASSERT_TRUE(GetOne(on_b, held, {}).present());
  const ObjectId id = Put(on_a, 500'000);
  Push(on_a, {id}, b_.id());
  const auto entry = GetOne(on_b, id, {a_.id()});
  ASSERT_TRUE(entry.present()) << "who asks for it gets it";
  EXPECT_TRUE(HasItsBytes(on_b, id, entry));
  Release(on_b, id);
  const ObjectId other = Put(on_a, 500'000);
  Push(on_a, {other}, b_.id());
  Push(on_a, {other}, b_.id());
  ASSERT_TRUE(GetOne(on_b, held, {}).present());
  EXPECT_FALSE(GetOne(on_b, other, {}, 100).present());
}

TEST_F(RayletTransferTest, BroadcastReachesEveryNode) {
  Program on_a = StartProgram(a_);
  const ObjectId id = Put(on_a, 8 << 20);
  std::vector<Node> nodes;
  std::vector<Program> programs;
  for (int i = 0; i < 5; ++i) nodes.push_back(Start(absl::StrCat("n", i)));
  for (const Node& node : nodes) programs.push_back(StartProgram(node));
  std::vector<StoreGetReply> replies(5);
  size_t came = 0;
  for (size_t i = 0; i < 5; ++i) {
    programs[i].client->connection().Call(
        STORE_GET, GetOf({id}, {a_.id()}), [&, i](absl::StatusOr<net::Frame> frame) {
          ASSERT_TRUE(frame.ok());
          replies[i].ParseFromString(std::string(frame->metadata));
          ++came;
        });
  }
  ASSERT_TRUE(Poll([&] { return came == 5; }));
  for (size_t i = 0; i < 5; ++i) {
    ASSERT_TRUE(replies[i].entries(0).present()) << replies[i].entries(0).reason();
    EXPECT_TRUE(HasItsBytes(programs[i], id, replies[i].entries(0)));
  }
  programs.clear();
}

}  // namespace
}  // namespace ray::raylet
