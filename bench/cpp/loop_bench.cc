// How long a message takes between two processes' event loops, and how long a handler takes inside
// one.
#include <benchmark/benchmark.h>
#include <sys/socket.h>

#include <atomic>
#include <memory>
#include <thread>

#include "ray/base/check.h"
#include "ray/net/connection.h"
#include "ray/net/event_loop.h"
#include "ray/wire/v1/cluster.pb.h"
#include "ray/wire/v1/frame_type.pb.h"

namespace ray::net {
namespace {

constexpr uint16_t kEcho = wire::v1::KV;

// How a thread waits for its loop: asleep in the kernel, or polling as a core worker's waiting
// thread does at first.
enum class Wait { kSleep, kSpin };

absl::Duration PollTimeout(Wait wait) {
  return wait == Wait::kSpin ? absl::ZeroDuration() : absl::InfiniteDuration();
}

// A loop on a thread of its own that answers every request with an empty reply.
class EchoServer {
 public:
  EchoServer(UniqueFd fd, Wait wait) : connection_(Connection::Create(&loop_, std::move(fd), {})) {
    connection_->Start({.on_frame =
                            [](const std::shared_ptr<Connection>& connection, const Frame& frame) {
                              connection->Reply(kEcho, frame.correlation_id, wire::v1::KvReply());
                            },
                        .on_close = [](const auto&, const absl::Status&) {}});
    thread_ = std::thread([this, wait] {
      while (!stopped_) loop_.Poll(PollTimeout(wait));
    });
  }
  ~EchoServer() {
    stopped_ = true;
    loop_.Wake();
    thread_.join();
    connection_->Close(absl::CancelledError("done"));
    loop_.Poll(absl::ZeroDuration());
  }

 private:
  EventLoop loop_;
  std::shared_ptr<Connection> connection_;
  std::atomic<bool> stopped_{false};
  std::thread thread_;
};

struct Pair {
  explicit Pair(Wait wait) {
    int fds[2];
    MANTA_CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
    server = std::make_unique<EchoServer>(UniqueFd(fds[1]), wait);
    client = Connection::Create(&loop, UniqueFd(fds[0]), {});
    client->Start({.on_frame = [](const auto&, const Frame&) {},
                   .on_close = [](const auto&, const absl::Status&) {}});
  }
  ~Pair() {
    client->Close(absl::CancelledError("done"));
    loop.Poll(absl::ZeroDuration());
  }

  EventLoop loop;
  std::unique_ptr<EchoServer> server;
  std::shared_ptr<Connection> client;
};

// One request in flight.
void BM_RoundTrip(benchmark::State& state, Wait wait) {
  Pair pair(wait);
  for (auto _ : state) {
    bool answered = false;
    pair.client->Call(kEcho, wire::v1::KvRequest(),
                      [&](absl::StatusOr<Frame>) { answered = true; });
    while (!answered) pair.loop.Poll(PollTimeout(wait));
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK_CAPTURE(BM_RoundTrip, sleep, Wait::kSleep)->UseRealTime();
BENCHMARK_CAPTURE(BM_RoundTrip, spin, Wait::kSpin)->UseRealTime();

// range(0) requests in flight, coalesced.
void BM_PipelinedRequests(benchmark::State& state) {
  Pair pair(Wait::kSleep);
  for (auto _ : state) {
    int64_t answered = 0;
    for (int64_t i = 0; i < state.range(0); ++i) {
      pair.client->Call(
          kEcho, wire::v1::KvRequest(), [&](absl::StatusOr<Frame>) { ++answered; }, {},
          Connection::Flush::kCoalesce);
    }
    pair.client->FlushNow();
    while (answered < state.range(0)) pair.loop.Poll(absl::InfiniteDuration());
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(BM_PipelinedRequests)->Arg(1000)->UseRealTime();

void BM_PostedTask(benchmark::State& state) {
  EventLoop loop;
  int64_t runs = 0;
  for (auto _ : state) {
    loop.Post([&] { ++runs; });
    loop.Poll(absl::ZeroDuration());
  }
  state.SetItemsProcessed(runs);
}
BENCHMARK(BM_PostedTask);

void BM_TimerSetAndCancelled(benchmark::State& state) {
  EventLoop loop;
  for (auto _ : state) loop.Cancel(loop.RunAfter(absl::Seconds(10), [] {}));
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(BM_TimerSetAndCancelled);

}  // namespace
}  // namespace ray::net
