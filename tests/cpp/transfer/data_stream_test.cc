// Streams over real sockets between two memories of one process, in plain text and within TLS.
#include "ray/transfer/data_stream.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <random>

#include "ray/net/event_loop.h"
#include "ray/net/tls_testutil.h"

namespace ray::transfer {
namespace {

using base::NodeId;
using base::ObjectId;
using ::testing::HasSubstr;

constexpr uint64_t kCapacity = 8 << 20;

class DataStreamTest : public testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    if (GetParam()) tls_ = net::TestAuthority().Context();
    std::mt19937 random(1);
    for (uint64_t at = 0; at < kCapacity; at += 4) {
      const auto word = static_cast<uint32_t>(random());
      std::memcpy(from_->At(at), &word, sizeof word);
    }
  }

  // The two ends of a new connection between nodes: the puller's, the source's.
  std::pair<StreamSocket, StreamSocket> Connect() {
    int fds[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
    std::pair<StreamSocket, StreamSocket> ends;
    ends.first.fd.Reset(fds[0]);
    ends.second.fd.Reset(fds[1]);
    if (tls_ == nullptr) return ends;
    ends.first.tls = tls_->MakeChannel(fds[0], net::TlsContext::Side::kConnector);
    ends.second.tls = tls_->MakeChannel(fds[1], net::TlsContext::Side::kAcceptor);
    bool first = false, second = false;
    while (!first || !second) {
      first = *ends.first.tls->Handshake();
      second = *ends.second.tls->Handshake();
    }
    return ends;
  }
  // A new stream from the puller to the source.
  void Dial(const NodeId& node, DataFetcher::DialCallback done) {
    ++dials_;
    if (node != source_) {
      return loop_.Post(
          [done = std::move(done)]() mutable { done(absl::UnavailableError("nobody listens")); });
    }
    auto [pullers, sources] = Connect();
    server_.Serve(std::move(sources), puller_, /*shared=*/false);
    loop_.Post([done = std::move(done), socket = std::move(pullers)]() mutable {
      done(std::move(socket));
    });
  }
  // A new stream on the same machine.
  absl::StatusOr<StreamSocket> OpenHere() {
    ++opened_here_;
    if (fail_here_) return absl::UnavailableError("not on this machine");
    int ends[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
    loop_.Post([this, fd = ends[0]] {
      server_.Serve({.fd = net::UniqueFd(fd)}, puller_, /*shared=*/true);
    });
    return StreamSocket{
        .fd = net::UniqueFd(ends[1]),
        .source_memory = *store::SharedMemory::Map(net::UniqueFd(dup(from_->fd())), kCapacity)};
  }
  void FetchHere() {
    fetcher_ = std::make_unique<DataFetcher>(
        into_.get(),
        DataFetcher::Options{
            .streams = 2,
            .dial = [this](const NodeId& node,
                           DataFetcher::DialCallback done) { Dial(node, std::move(done)); },
            .post = [this](absl::AnyInvocable<void()> task) { loop_.Post(std::move(task)); },
            .open_here = [this](const NodeId&) { return [this] { return OpenHere(); }; }});
  }
  void GrantAt(const ObjectId& id, store::Extent extent) { Grant(puller_, id, extent, nullptr); }
  void GrantFile(const ObjectId& id, store::Extent extent, net::UniqueFd file) {
    grants_.Add(puller_, id,
                std::shared_ptr<const GrantTable::Grant>(new GrantTable::Grant{
                    .extent = extent, .file = std::move(file), .unused = [this] { ++unused_; }}));
  }
  void Grant(const NodeId& node, const ObjectId& id, store::Extent extent,
             OfferTable::AvailableBytes available) {
    grants_.Add(node, id,
                std::shared_ptr<const GrantTable::Grant>(new GrantTable::Grant{
                    .extent = extent, .available_bytes = std::move(available), .unused = [this] {
                      ++unused_;
                    }}));
  }
  bool Poll(const std::function<bool()>& condition) {
    const absl::Time deadline = absl::Now() + absl::Seconds(20);
    while (!condition() && absl::Now() < deadline) loop_.Poll(absl::Milliseconds(20));
    return condition();
  }
  // What became of the fetch.
  std::shared_ptr<absl::StatusOr<bool>> Start(const ObjectId& id, store::Extent part, uint64_t to) {
    return Start(source_, id, part, to);
  }
  std::shared_ptr<absl::StatusOr<bool>> Start(const NodeId& node, const ObjectId& id,
                                              store::Extent part, uint64_t to) {
    auto result = std::make_shared<absl::StatusOr<bool>>(false);
    fetcher_->Fetch(node, id, part, {.offset = to}, [result](const absl::Status& status) {
      *result = status.ok() ? absl::StatusOr<bool>(true) : status;
    });
    return result;
  }
  static bool IsDone(const std::shared_ptr<absl::StatusOr<bool>>& result) {
    return !result->ok() || **result;
  }
  absl::Status Fetch(const ObjectId& id, store::Extent part, uint64_t to) {
    auto result = Start(id, part, to);
    EXPECT_TRUE(Poll([&] { return IsDone(result); }));
    return result->status();
  }

  std::shared_ptr<const net::TlsContext> tls_;  // null: plain text
  const NodeId source_ = NodeId::Random();
  const NodeId puller_ = NodeId::Random();
  const ObjectId id_ = ObjectId::Random();
  net::EventLoop loop_;
  std::unique_ptr<store::SharedMemory> from_ = *store::SharedMemory::Create(kCapacity);
  std::unique_ptr<store::SharedMemory> into_ = *store::SharedMemory::Create(kCapacity);
  std::atomic<int> unused_{0};
  int dials_ = 0;
  std::atomic<int> opened_here_{0};
  bool fail_here_ = false;
  GrantTable grants_;
  DataServer server_{from_.get(), &grants_};
  std::unique_ptr<DataFetcher> fetcher_ = std::make_unique<DataFetcher>(
      into_.get(),
      DataFetcher::Options{
          .streams = 2,
          .dial = [this](const NodeId& node,
                         DataFetcher::DialCallback done) { Dial(node, std::move(done)); },
          .post = [this](absl::AnyInvocable<void()> task) { loop_.Post(std::move(task)); }});
};

INSTANTIATE_TEST_SUITE_P(Streams, DataStreamTest, testing::Bool(),
                         [](const auto& info) { return info.param ? "Tls" : "Plain"; });

TEST_P(DataStreamTest, BytesArriveWhereTheyBelong) {
  constexpr uint64_t kSize = 5'000'001;
  GrantAt(id_, {64, kSize});
  std::vector<std::shared_ptr<absl::StatusOr<bool>>> results;
  constexpr uint64_t kPart = 300'000;
  for (uint64_t at = 0; at < kSize; at += kPart) {
    results.push_back(Start(id_, {at, std::min(kPart, kSize - at)}, 128 + at));
  }
  for (const auto& result : results) {
    EXPECT_TRUE(Poll([&] { return IsDone(result); }));
    EXPECT_TRUE(result->ok()) << result->status();
  }
  EXPECT_EQ(std::memcmp(into_->At(128), from_->At(64), kSize), 0);
  const std::string untouched(128, '\0');
  EXPECT_EQ(std::memcmp(into_->At(0), untouched.data(), 128), 0);
  EXPECT_EQ(std::memcmp(into_->At(128 + kSize), untouched.data(), 128), 0);
  EXPECT_EQ(dials_, 2);
}

TEST_P(DataStreamTest, FileOfItsOwnIsSentFromThere) {
  constexpr uint64_t kSize = 1'000'001, kPlace = 4096;
  net::UniqueFd file(memfd_create("own", MFD_CLOEXEC));
  ASSERT_EQ(pwrite(file.get(), from_->At(0), kSize, kPlace), static_cast<ssize_t>(kSize));
  GrantFile(id_, {kPlace, kSize}, std::move(file));
  EXPECT_TRUE(Fetch(id_, {1, kSize - 1}, 64).ok());
  EXPECT_EQ(std::memcmp(into_->At(64), from_->At(1), kSize - 1), 0);
  // One that is shorter than the grant says.
  net::UniqueFd shorter(memfd_create("own", MFD_CLOEXEC));
  const ObjectId other = ObjectId::Random();
  GrantFile(other, {0, kSize}, std::move(shorter));
  EXPECT_FALSE(Fetch(other, {0, kSize}, 0).ok());
}

TEST_P(DataStreamTest, BytesGoIntoAFile) {
  constexpr uint64_t kSize = 5'000'001;
  GrantAt(id_, {64, kSize});
  std::shared_ptr<const store::SharedMemory> file = *store::SharedMemory::Create(kSize);
  for (const bool here : {false, true}) {
    if (here) FetchHere();
    std::memset(file->At(0), 0, kSize);
    auto done = std::make_shared<absl::StatusOr<bool>>(false);
    fetcher_->Fetch(source_, id_, {5, kSize - 5}, {.offset = 5, .file = file},
                    [done](const absl::Status& status) {
                      *done = status.ok() ? absl::StatusOr<bool>(true) : status;
                    });
    ASSERT_TRUE(Poll([&] { return IsDone(done); }));
    EXPECT_EQ(std::memcmp(file->At(5), from_->At(69), kSize - 5), 0);
  }
  const std::string untouched(1000, '\0');
  EXPECT_EQ(std::memcmp(into_->At(0), untouched.data(), 1000), 0);
}

TEST_P(DataStreamTest, OnOneMachineBytesAreCopiedFromTheSourcesMemory) {
  FetchHere();
  constexpr uint64_t kSize = 5'000'001;
  GrantAt(id_, {64, kSize});
  EXPECT_TRUE(Fetch(id_, {0, 3'000'000}, 128).ok());
  EXPECT_TRUE(Fetch(id_, {3'000'000, kSize - 3'000'000}, 3'000'128).ok());
  EXPECT_EQ(std::memcmp(into_->At(128), from_->At(64), kSize), 0);
  EXPECT_FALSE(Fetch(id_, {kSize, 1}, 0).ok());
  EXPECT_EQ(dials_, 0);
}

TEST_P(DataStreamTest, NodeThatOnlySeemedToBeOnThisMachineIsDialed) {
  fail_here_ = true;
  FetchHere();
  GrantAt(id_, {0, 1000});
  EXPECT_TRUE(Fetch(id_, {0, 1000}, 0).ok());
  EXPECT_TRUE(Fetch(id_, {0, 1000}, 0).ok());
  EXPECT_TRUE(Poll([&] { return opened_here_ == 2 && dials_ == 2; }));
}

TEST_P(DataStreamTest, WhatIsNotGrantedIsRefusedAndTheNextFetchWorks) {
  GrantAt(id_, {0, 1000});
  EXPECT_THAT(Fetch(ObjectId::Random(), {0, 10}, 0).message(), HasSubstr("does not grant"));
  EXPECT_THAT(Fetch(id_, {900, 101}, 0).message(), HasSubstr("does not grant"));
  EXPECT_THAT(Fetch(id_, {UINT64_MAX - 5, 10}, 0).message(), HasSubstr("does not grant"));
  EXPECT_TRUE(Fetch(id_, {900, 100}, 0).ok());
  grants_.Remove(puller_, id_);
  EXPECT_FALSE(Fetch(id_, {0, 10}, 0).ok());
  EXPECT_TRUE(Poll([&] { return unused_ == 1; }));
}

TEST_P(DataStreamTest, WhatWasSentStaysUntilItIsAcknowledged) {
  int ends[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  const net::UniqueFd peer(ends[1]);
  server_.Serve({.fd = net::UniqueFd(ends[0])}, puller_, /*shared=*/false);
  GrantAt(id_, {0, 1000});
  std::string request(48, '\0');
  std::memcpy(request.data(), id_.data(), ObjectId::kSize);
  request[40] = 100;  // length
  ASSERT_EQ(send(peer.get(), request.data(), 48, 0), 48);
  char answer[24 + 100];
  ASSERT_EQ(recv(peer.get(), answer, sizeof answer, MSG_WAITALL), 124);
  EXPECT_EQ(std::memcmp(answer + 24, from_->At(0), 100), 0);
  grants_.Remove(puller_, id_);
  EXPECT_EQ(unused_, 0);
  request[40] = 0;
  ASSERT_EQ(send(peer.get(), request.data(), 48, 0), 48);
  EXPECT_TRUE(Poll([&] { return unused_ == 1; }));
  // One too many.
  ASSERT_EQ(send(peer.get(), request.data(), 48, 0), 48);
  EXPECT_EQ(recv(peer.get(), answer, 1, 0), 0);
}

TEST_P(DataStreamTest, WhatIsNotHereYetIsNotSent) {
  const auto available = std::make_shared<std::atomic<uint64_t>>(500);
  Grant(puller_, id_, {0, 1000}, available);
  EXPECT_TRUE(Fetch(id_, {0, 500}, 0).ok());
  EXPECT_THAT(Fetch(id_, {400, 101}, 0).message(), HasSubstr("does not grant"));
  *available = 501;
  EXPECT_TRUE(Fetch(id_, {400, 101}, 0).ok());
  *available = UINT64_MAX;
  EXPECT_TRUE(Fetch(id_, {900, 100}, 0).ok());
  EXPECT_THAT(Fetch(id_, {900, 101}, 0).message(), HasSubstr("does not grant"));
}

TEST_P(DataStreamTest, GrantOfAnotherNodeIsNotUsable) {
  Grant(NodeId::Random(), id_, {0, 1000}, nullptr);
  EXPECT_FALSE(Fetch(id_, {0, 10}, 0).ok());
}

TEST_P(DataStreamTest, GarbageEndsThatStreamOnly) {
  int ends[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  server_.Serve({.fd = net::UniqueFd(ends[0])}, puller_, /*shared=*/false);
  const std::string garbage(1000, 'x');
  ASSERT_EQ(send(ends[1], garbage.data(), garbage.size(), MSG_NOSIGNAL), 1000);
  char answer[64];
  while (recv(ends[1], answer, sizeof answer, 0) > 0) {
  }
  close(ends[1]);
  GrantAt(id_, {0, 1000});
  EXPECT_TRUE(Fetch(id_, {0, 1000}, 0).ok());
  EXPECT_TRUE(Poll([&] { return server_.streams() == 2; }));
}

TEST_P(DataStreamTest, NodeThatCannotBeReachedFailsItsFetches) {
  const auto result = Start(NodeId::Random(), id_, {0, 10}, 0);
  EXPECT_TRUE(Poll([&] { return IsDone(result); }));
  EXPECT_THAT(result->status().message(), HasSubstr("nobody listens"));
}

TEST_P(DataStreamTest, DeadNodeFailsWhatIsUnderWay) {
  // A source that never answers.
  int ends[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  const net::UniqueFd silent(ends[0]);
  DataFetcher fetcher(
      into_.get(),
      {.streams = 1,
       .dial =
           [&](const NodeId&, DataFetcher::DialCallback done) {
             loop_.Post([done = std::move(done), fd = ends[1]]() mutable {
               done(StreamSocket{.fd = net::UniqueFd(fd)});
             });
           },
       .post = [this](absl::AnyInvocable<void()> task) { loop_.Post(std::move(task)); }});
  int failed = 0;
  for (int i = 0; i < 5; ++i) {
    fetcher.Fetch(source_, id_, {0, 10}, {}, [&](const absl::Status& status) {
      EXPECT_FALSE(status.ok());
      ++failed;
    });
  }
  char request[48];
  std::thread reader([&] { EXPECT_EQ(recv(ends[0], request, sizeof request, MSG_WAITALL), 48); });
  const absl::Time until = absl::Now() + absl::Milliseconds(50);
  while (absl::Now() < until) loop_.Poll(absl::Milliseconds(10));
  reader.join();
  EXPECT_EQ(failed, 0);
  fetcher.NodeGone(source_);
  EXPECT_TRUE(Poll([&] { return failed == 5; }));
}

TEST_P(DataStreamTest, EndsWhileBytesAreUnderWay) {
  GrantAt(id_, {0, kCapacity});
  constexpr uint64_t kParts = 50;
  constexpr uint64_t kPart = kCapacity / kParts;
  for (uint64_t i = 0; i < kParts; ++i) Start(id_, {i * kPart, kPart}, i * kPart);
  loop_.Poll(absl::Milliseconds(1));
  loop_.Poll(absl::Milliseconds(1));
  fetcher_.reset();
}

}  // namespace
}  // namespace ray::transfer
