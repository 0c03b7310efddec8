#include "ray/net/connection.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <functional>
#include <random>
#include <thread>
#include <tuple>
#include <vector>

#include "absl/strings/str_cat.h"
#include "ray/net/connection_testutil.h"
#include "ray/net/event_loop_testutil.h"
#include "ray/wire/v1/frame_type.pb.h"

namespace ray::net {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr uint16_t kType = wire::v1::ERROR;

// One side of a connection, with a record of what reached it. Answers a request "x" with "re:x" if
// told to.
struct Side {
  std::shared_ptr<Connection> connection;
  std::vector<std::string> frames;  // metadata text, then payload
  std::vector<absl::Status> closes;
  bool answers = false;

  void Start(EventLoop* loop, UniqueFd fd, const Connection::Options& options,
             std::string already_read = {}) {
    connection = Connection::Create(loop, std::move(fd), options);
    connection->Start({.on_frame = [this](const std::shared_ptr<Connection>& on,
                                          const Frame& frame) { OnFrame(on, frame); },
                       .on_close = [this](const std::shared_ptr<Connection>&,
                                          const absl::Status& why) { closes.push_back(why); }},
                      std::move(already_read));
  }
  void OnFrame(const std::shared_ptr<Connection>& on, const Frame& frame) {
    EXPECT_THAT(closes, IsEmpty());  // CONN-1
    std::string text = TextOf(frame.metadata);
    frames.push_back(
        absl::StrCat(text, absl::string_view(frame.payload.data(), frame.payload.size())));
    if (answers) on->Reply(frame.type, frame.correlation_id, TextMessage("re:" + text));
  }
  void Send(std::string_view text, Connection::Flush flush = Connection::Flush::kNow) {
    connection->Send(kType, TextMessage(text), {}, flush);
  }
};

class ConnectionTest : public ::testing::Test {
 protected:
  void StartBoth() {
    auto [a, b] = MakeSocketPair();
    a_.Start(&loop_, std::move(a), options_);
    b_.Start(&loop_, std::move(b), options_);
  }
  // One side is a Connection, the other a bare socket in the hands of the test.
  UniqueFd StartOne() {
    auto [a, b] = MakeSocketPair();
    a_.Start(&loop_, std::move(a), options_);
    return std::move(b);
  }
  bool Until(absl::FunctionRef<bool()> done) { return PollUntil(&loop_, done); }
  void CallAndNote(Side& side, std::string_view text,
                   Connection::Flush flush = Connection::Flush::kNow) {
    side.connection->Call(
        kType, TextMessage(text),
        [this](absl::StatusOr<Frame> reply) {
          replies_.push_back(reply.ok() ? TextOf(reply->metadata) : reply.status().ToString());
        },
        {}, flush);
  }
  void TearDown() override {
    for (Side* side : {&a_, &b_, &c_}) {
      if (side->connection != nullptr) side->connection->Close(absl::CancelledError("test ends"));
    }
    while (loop_.Poll(absl::ZeroDuration()) > 0) continue;
    for (Side* side : {&a_, &b_, &c_}) {
      EXPECT_LE(side->closes.size(), 1u);  // CONN-1
    }
  }

  EventLoop loop_;
  Connection::Options options_;
  Side a_;
  Side b_;
  Side c_;
  std::vector<std::string> replies_;
};

size_t ReadableBytes(int fd) {
  char bytes[64 << 10];
  ssize_t n = recv(fd, bytes, sizeof bytes, MSG_PEEK | MSG_DONTWAIT);
  return n < 0 ? 0 : static_cast<size_t>(n);
}

TEST_F(ConnectionTest, FramesArriveInTheOrderTheyWereSent) {  // CONN-3
  StartBoth();
  std::vector<std::string> sent;
  using Flush = Connection::Flush;
  for (int i = 0; i < 300; ++i) {
    sent.push_back(absl::StrCat(i));
    a_.Send(sent.back(), std::array{Flush::kNow, Flush::kCoalesce, Flush::kDefer}[i % 3]);
  }
  ASSERT_TRUE(Until([&] { return b_.frames.size() == sent.size(); }));
  EXPECT_EQ(b_.frames, sent);
}

TEST_F(ConnectionTest, PayloadSegmentsArriveJoined) {
  StartBoth();
  std::string metadata = TextMessage("m").SerializeAsString();
  a_.connection->SendRaw(kType, 0, 0, metadata, {"one", "", "two"}, Connection::Flush::kNow);
  ASSERT_TRUE(Until([&] { return !b_.frames.empty(); }));
  EXPECT_THAT(b_.frames, ElementsAre("monetwo"));
}

TEST_F(ConnectionTest, EachCallGetsItsReply) {  // CONN-2
  StartBoth();
  b_.answers = true;
  std::vector<std::string> expected;
  for (int i = 0; i < 50; ++i) {
    CallAndNote(a_, absl::StrCat(i), Connection::Flush::kCoalesce);
    expected.push_back(absl::StrCat("re:", i));
  }
  ASSERT_TRUE(Until([&] { return replies_.size() == 50; }));
  EXPECT_EQ(replies_, expected);
}

TEST_F(ConnectionTest, RepliesMayComeInAnyOrder) {
  StartBoth();
  CallAndNote(a_, "first");
  CallAndNote(a_, "second");
  ASSERT_TRUE(Until([&] { return b_.frames.size() == 2; }));
  b_.connection->Reply(kType, 2, TextMessage("to second"));
  b_.connection->Reply(kType, 1, TextMessage("to first"));
  ASSERT_TRUE(Until([&] { return replies_.size() == 2; }));
  EXPECT_THAT(replies_, ElementsAre("to second", "to first"));
}

TEST_F(ConnectionTest, PendingCallsGetTheReasonOfTheClose) {  // CONN-2
  UniqueFd peer = StartOne();
  CallAndNote(a_, "x");
  CallAndNote(a_, "y");
  peer.Reset(-1);
  ASSERT_TRUE(Until([&] { return !a_.closes.empty(); }));
  EXPECT_EQ(a_.closes[0].code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(replies_, ElementsAre(a_.closes[0].ToString(), a_.closes[0].ToString()));
}

TEST_F(ConnectionTest, CallAfterTheCloseGetsTheReasonToo) {  // CONN-2
  StartBoth();
  a_.connection->Close(absl::CancelledError("enough"));
  CallAndNote(a_, "before the report");
  ASSERT_TRUE(Until([&] { return !a_.closes.empty(); }));
  CallAndNote(a_, "after the report");
  ASSERT_TRUE(Until([&] { return replies_.size() == 2; }));
  EXPECT_THAT(replies_[0], HasSubstr("enough"));
  EXPECT_THAT(replies_[1], HasSubstr("enough"));
  EXPECT_EQ(a_.closes.size(), 1u);
}

TEST_F(ConnectionTest, CloseIsReportedLaterOnceAndToBothSides) {  // CONN-1
  StartBoth();
  a_.connection->Close(absl::CancelledError("enough"));
  a_.connection->Close(absl::InternalError("again"));
  EXPECT_TRUE(a_.connection->closed());
  EXPECT_THAT(a_.closes, IsEmpty());
  a_.Send("dropped");
  ASSERT_TRUE(Until([&] { return !a_.closes.empty() && !b_.closes.empty(); }));
  EXPECT_THAT(a_.closes, ElementsAre(absl::CancelledError("enough")));
  EXPECT_EQ(b_.closes[0].code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(b_.frames, IsEmpty());
}

TEST_F(ConnectionTest, CloseFromAHandlerEndsTheDelivery) {
  int seen = 0;
  auto [c, d] = MakeSocketPair();
  a_.Start(&loop_, std::move(c), options_);
  auto receiver = Connection::Create(&loop_, std::move(d), options_);
  receiver->Start({.on_frame =
                       [&](const std::shared_ptr<Connection>& on, const Frame&) {
                         ++seen;
                         on->Close(absl::CancelledError("first is enough"));
                       },
                   .on_close = [](const std::shared_ptr<Connection>&, const absl::Status&) {}});
  a_.Send("1", Connection::Flush::kDefer);
  a_.Send("2");
  ASSERT_TRUE(Until([&] { return !a_.closes.empty(); }));
  EXPECT_EQ(seen, 1);
}

TEST_F(ConnectionTest, BufferedWordsLeaveBeforeAClose) {
  StartBoth();
  a_.Send("last words", Connection::Flush::kDefer);
  a_.connection->Close(absl::CancelledError("bye"));
  ASSERT_TRUE(Until([&] { return !b_.closes.empty(); }));
  EXPECT_THAT(b_.frames, ElementsAre("last words"));
}

TEST_F(ConnectionTest, SendToAPeerThatIsGoneClosesFromTheLoop) {  // CONN-1
  UniqueFd peer = StartOne();
  peer.Reset(-1);
  a_.Send("into the void");
  EXPECT_THAT(a_.closes, IsEmpty());
  ASSERT_TRUE(Until([&] { return !a_.closes.empty(); }));
}

TEST_F(ConnectionTest, FirstFrameOnAQuietConnectionLeavesAtOnce) {
  UniqueFd peer = StartOne();
  CallAndNote(a_, "x", Connection::Flush::kCoalesce);
  EXPECT_GT(ReadableBytes(peer.get()), 0u);
}

TEST_F(ConnectionTest, FramesGatherWhileRepliesAreOutstandingUntilAReplyComes) {
  options_.coalesce_max_delay = absl::Hours(1);
  StartBoth();
  CallAndNote(a_, "1", Connection::Flush::kCoalesce);
  ASSERT_TRUE(Until([&] { return b_.frames.size() == 1; }));
  CallAndNote(a_, "2", Connection::Flush::kCoalesce);
  CallAndNote(a_, "3", Connection::Flush::kCoalesce);
  EXPECT_TRUE(a_.connection->has_buffered());
  b_.connection->Reply(kType, 1, TextMessage("go on"));
  ASSERT_TRUE(Until([&] { return b_.frames.size() == 3; }));
  EXPECT_THAT(b_.frames, ElementsAre("1", "2", "3"));
}

TEST_F(ConnectionTest, FlushTimerSendsWhatGathered) {
  StartBoth();
  a_.Send("deferred", Connection::Flush::kDefer);
  EXPECT_TRUE(a_.connection->has_buffered());
  ASSERT_TRUE(Until([&] { return !b_.frames.empty(); }));
}

TEST_F(ConnectionTest, FlushNowSendsWhatGathered) {
  options_.coalesce_max_delay = absl::Hours(1);
  UniqueFd peer = StartOne();
  a_.Send("deferred", Connection::Flush::kDefer);
  EXPECT_EQ(ReadableBytes(peer.get()), 0u);
  a_.connection->FlushNow();
  EXPECT_GT(ReadableBytes(peer.get()), 0u);
}

TEST_F(ConnectionTest, SizeSendsWhatGathered) {
  options_.coalesce_max_delay = absl::Hours(1);
  options_.coalesce_max_bytes = 1000;
  UniqueFd peer = StartOne();
  a_.Send(std::string(500, 'x'), Connection::Flush::kDefer);
  EXPECT_EQ(ReadableBytes(peer.get()), 0u);
  a_.Send(std::string(500, 'x'), Connection::Flush::kDefer);
  EXPECT_GT(ReadableBytes(peer.get()), 1000u);
}

TEST_F(ConnectionTest, LargeFramesCrossWhole) {
  StartBoth();
  b_.answers = true;
  std::string payload(20 << 20, '\0');
  std::mt19937 random(7);
  for (size_t i = 0; i < payload.size(); i += 1000) payload[i] = static_cast<char>(random());
  a_.connection->Send(kType, TextMessage(""), payload);
  CallAndNote(a_, "after");
  ASSERT_TRUE(Until([&] { return b_.frames.size() == 2; }));
  EXPECT_TRUE(b_.frames[0] == payload);
  EXPECT_EQ(b_.frames[1], "after");
}

TEST_F(ConnectionTest, BytesThatTrickleInStillMakeFrames) {
  UniqueFd peer = StartOne();
  auto [c, d] = MakeSocketPair();
  auto writer = Connection::Create(&loop_, std::move(c), options_);
  for (int i = 0; i < 3; ++i) writer->Send(kType, TextMessage(absl::StrCat("slow", i)));
  char bytes[1000];
  ssize_t size = recv(d.get(), bytes, sizeof bytes, 0);
  ASSERT_GT(size, 0);
  for (ssize_t i = 0; i < size; ++i) {
    ASSERT_EQ(send(peer.get(), bytes + i, 1, 0), 1);
    loop_.Poll(absl::ZeroDuration());
  }
  EXPECT_THAT(a_.frames, ElementsAre("slow0", "slow1", "slow2"));
}

TEST_F(ConnectionTest, BytesOfTheHandshakeComeFirst) {
  auto [c, d] = MakeSocketPair();
  auto writer = Connection::Create(&loop_, std::move(c), options_);
  writer->Send(kType, TextMessage("already read"));
  char bytes[1000];
  ssize_t size = recv(d.get(), bytes, sizeof bytes, 0);
  ASSERT_GT(size, 10);
  writer->Send(kType, TextMessage("later"));
  a_.Start(&loop_, std::move(d), options_, std::string(bytes, static_cast<size_t>(size)));
  ASSERT_TRUE(Until([&] { return a_.frames.size() == 2; }));
  EXPECT_THAT(a_.frames, ElementsAre("already read", "later"));
}

TEST_F(ConnectionTest, HostileHeaderClosesOnlyItsConnection) {
  UniqueFd hostile = StartOne();
  auto [c, d] = MakeSocketPair();
  c_.answers = true;
  c_.Start(&loop_, std::move(c), options_);
  b_.Start(&loop_, std::move(d), options_);
  std::string garbage(100, 'G');
  ASSERT_EQ(send(hostile.get(), garbage.data(), garbage.size(), 0), 100);
  ASSERT_TRUE(Until([&] { return !a_.closes.empty(); }));
  EXPECT_EQ(a_.closes[0].code(), absl::StatusCode::kInvalidArgument);
  CallAndNote(b_, "still there?");
  ASSERT_TRUE(Until([&] { return !replies_.empty(); }));
  EXPECT_THAT(replies_, ElementsAre("re:still there?"));
  EXPECT_THAT(c_.closes, IsEmpty());
}

TEST_F(ConnectionTest, AnnouncedFrameOverTheLimitCloses) {
  options_.frame_max_bytes = 1000;
  UniqueFd peer = StartOne();
  FrameHeader header;
  header.body_size = 1001;
  ASSERT_EQ(send(peer.get(), &header, sizeof header, 0), ssize_t{sizeof header});
  ASSERT_TRUE(Until([&] { return !a_.closes.empty(); }));
  EXPECT_THAT(a_.closes[0].ToString(), HasSubstr("1001"));
}

TEST_F(ConnectionTest, ReplyToNoRequestCloses) {
  StartBoth();
  b_.connection->Reply(kType, 99, TextMessage("unasked"));
  ASSERT_TRUE(Until([&] { return !a_.closes.empty(); }));
  EXPECT_EQ(a_.closes[0].code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(ConnectionTest, SecondReplyToARequestCloses) {
  StartBoth();
  CallAndNote(a_, "x");
  ASSERT_TRUE(Until([&] { return b_.frames.size() == 1; }));
  b_.connection->Reply(kType, 1, TextMessage("once"));
  b_.connection->Reply(kType, 1, TextMessage("twice"));
  ASSERT_TRUE(Until([&] { return !a_.closes.empty(); }));
  EXPECT_THAT(replies_, ElementsAre("once"));
}

TEST_F(ConnectionTest, PeerThatDoesNotReadIsCutOff) {
  options_.outbuffer_max_bytes = 1 << 20;
  UniqueFd peer = StartOne();
  const std::string chunk(64 << 10, 'x');
  for (int i = 0; i < 100 && !a_.connection->closed(); ++i) a_.Send(chunk);
  EXPECT_TRUE(a_.connection->closed());
  EXPECT_THAT(a_.closes, IsEmpty());  // CONN-1: not inside Send
  ASSERT_TRUE(Until([&] { return !a_.closes.empty(); }));
  EXPECT_EQ(a_.closes[0].code(), absl::StatusCode::kResourceExhausted);
}

TEST_F(ConnectionTest, SlowReaderGetsEverything) {
  StartBoth();
  const std::string chunk(64 << 10, 'x');
  for (int i = 0; i < 100; ++i) a_.Send(chunk);
  EXPECT_TRUE(a_.connection->has_buffered());  // more than the kernel takes
  ASSERT_TRUE(Until([&] { return b_.frames.size() == 100; }));
  EXPECT_FALSE(a_.connection->has_buffered());
}

TEST_F(ConnectionTest, SendBeforeStartIsKept) {
  auto [c, d] = MakeSocketPair();
  auto early = Connection::Create(&loop_, std::move(c), options_);
  const std::string chunk(1 << 20, 'x');
  early->Send(kType, TextMessage(chunk));  // more than the kernel takes at once
  early->Start({.on_frame = [](const std::shared_ptr<Connection>&, const Frame&) {},
                .on_close = [](const std::shared_ptr<Connection>&, const absl::Status&) {}});
  b_.Start(&loop_, std::move(d), options_);
  ASSERT_TRUE(Until([&] { return !b_.frames.empty(); }));
  EXPECT_TRUE(b_.frames[0] == chunk);
}

TEST_F(ConnectionTest, NothingHoldsAClosedConnection) {
  StartBoth();
  std::weak_ptr<Connection> weak = a_.connection;
  a_.connection->Close(absl::CancelledError("bye"));
  ASSERT_TRUE(Until([&] { return !a_.closes.empty(); }));
  a_.connection.reset();
  EXPECT_TRUE(weak.expired());
}

TEST(ConnectionLifetime, OpenConnectionsMayOutliveNothingButTheLoop) {
  auto [a, b] = MakeSocketPair();
  std::weak_ptr<Connection> weak;
  {
    EventLoop loop;
    auto connection = Connection::Create(&loop, std::move(a), {});
    connection->Start({.on_frame = [](const std::shared_ptr<Connection>&, const Frame&) {},
                       .on_close = [](const std::shared_ptr<Connection>&, const absl::Status&) {}});
    weak = connection;
  }
  EXPECT_TRUE(weak.expired());
}

// --- the opening exchange of a client that has no loop

class HandshakeTest : public ::testing::Test {
 protected:
  absl::StatusOr<HandshakeResult> Shake(absl::Duration timeout = absl::Seconds(20)) {
    return BlockingHandshake(client_.get(), TextMessage("hello"), wire::v1::HELLO, wire::v1::ERROR,
                             timeout);
  }
  // Serves one connection in a thread until it got one frame, which `answer` handles.
  void Serve(std::function<void(const std::shared_ptr<Connection>&, const Frame&)> answer) {
    server_ = std::thread([this, answer = std::move(answer), fd = std::move(accepted_)]() mutable {
      EventLoop loop;
      bool answered = false;
      auto connection = Connection::Create(&loop, std::move(fd), {});
      connection->Start(
          {.on_frame =
               [&](const std::shared_ptr<Connection>& on, const Frame& frame) {
                 answer(on, frame);
                 answered = true;
               },
           .on_close = [](const std::shared_ptr<Connection>&, const absl::Status&) {}});
      EXPECT_TRUE(PollUntil(&loop, [&] { return answered; }));
    });
  }
  void SetUp() override { std::tie(client_, accepted_) = MakeSocketPair(); }
  void TearDown() override {
    if (server_.joinable()) server_.join();
  }

  UniqueFd client_;
  UniqueFd accepted_;
  std::thread server_;
};

TEST_F(HandshakeTest, BringsTheReplyItsDescriptorAndWhatFollows) {
  Serve([](const std::shared_ptr<Connection>& on, const Frame& frame) {
    EXPECT_EQ(TextOf(frame.metadata), "hello");
    int pipe_fds[2];
    ASSERT_EQ(pipe(pipe_fds), 0);
    UniqueFd read_end(pipe_fds[0]);
    UniqueFd write_end(pipe_fds[1]);
    on->ReplyWithFd(frame.type, frame.correlation_id, TextMessage("welcome"), read_end.get());
    ASSERT_EQ(write(write_end.get(), "through the pipe", 16), 16);
  });
  auto result = Shake();
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(TextOf(result->reply_metadata), "welcome");
  ASSERT_TRUE(result->received_fd.valid());
  server_.join();
  char bytes[16];
  EXPECT_EQ(read(result->received_fd.get(), bytes, sizeof bytes), 16);
}

TEST_F(HandshakeTest, ReportsARefusal) {
  Serve([](const std::shared_ptr<Connection>& on, const Frame&) {
    on->Send(wire::v1::ERROR, TextMessage("wrong version"));
  });
  auto result = Shake();
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(TextOf(result->refusal_metadata), "wrong version");
}

TEST_F(HandshakeTest, RefusesAnotherAnswer) {
  Serve([](const std::shared_ptr<Connection>& on, const Frame&) {
    on->Send(wire::v1::LOG_LINES, TextMessage("what?"));
  });
  EXPECT_EQ(Shake().status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(HandshakeTest, GivesUpOnASilentPeer) {
  EXPECT_EQ(Shake(absl::Milliseconds(5)).status().code(), absl::StatusCode::kDeadlineExceeded);
}

TEST_F(HandshakeTest, SeesAPeerThatCloses) {
  accepted_.Reset(-1);
  EXPECT_EQ(Shake().status().code(), absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace ray::net
