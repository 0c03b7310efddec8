// What it costs to write and read the two frames of the hot path: a pushed task and its reply.
#include <benchmark/benchmark.h>

#include <string>
#include <string_view>
#include <vector>

#include "ray/base/check.h"
#include "ray/base/ids.h"
#include "ray/core/task_frames.h"
#include "ray/net/frame.h"
#include "ray/wire/v1/frame_type.pb.h"

namespace ray::core {
namespace {

std::string Joined(const std::vector<std::string_view>& parts) {
  std::string joined;
  for (std::string_view part : parts) joined.append(part);
  return joined;
}

PushTaskFrame TaskWithArguments(std::string_view args) {
  PushTaskFrame task;
  task.task_id = base::DriverTaskId(base::JobIdFromInt(1));
  task.template_id = 7;
  task.args = args;
  return task;
}

void BM_PackPushTask(benchmark::State& state) {
  const std::string args(state.range(0), 'x');
  const PushTaskFrame task = TaskWithArguments(args);
  std::string metadata;
  std::vector<std::string_view> payload;
  for (auto _ : state) {
    metadata.clear();
    payload.clear();
    PackPushTask(task, &metadata, &payload);
    benchmark::DoNotOptimize(metadata.data());
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(BM_PackPushTask)->ArgName("args_bytes")->Arg(100)->Arg(100'000);

void BM_ParsePushTask(benchmark::State& state) {
  const std::string args(state.range(0), 'x');
  std::string metadata;
  std::vector<std::string_view> parts;
  PackPushTask(TaskWithArguments(args), &metadata, &parts);
  const std::string payload = Joined(parts);
  for (auto _ : state) {
    auto task = ParsePushTask(metadata, payload);
    MANTA_CHECK(task.ok());
    benchmark::DoNotOptimize(task);
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(BM_ParsePushTask)->ArgName("args_bytes")->Arg(100)->Arg(100'000);

TaskReplyFrame ReplyWithValue(std::string_view value) {
  TaskReplyFrame reply;
  reply.returns.resize(1);
  reply.returns[0].value = value;
  return reply;
}

void BM_PackTaskReply(benchmark::State& state) {
  const std::string value(100, 'x');
  const TaskReplyFrame reply = ReplyWithValue(value);
  std::string metadata;
  std::vector<std::string_view> payload;
  for (auto _ : state) {
    metadata.clear();
    payload.clear();
    PackTaskReply(reply, &metadata, &payload);
    benchmark::DoNotOptimize(metadata.data());
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(BM_PackTaskReply);

void BM_ParseTaskReply(benchmark::State& state) {
  const std::string value(100, 'x');
  std::string metadata;
  std::vector<std::string_view> parts;
  PackTaskReply(ReplyWithValue(value), &metadata, &parts);
  const std::string payload = Joined(parts);
  for (auto _ : state) {
    auto reply = ParseTaskReply(metadata, payload);
    MANTA_CHECK(reply.ok());
    benchmark::DoNotOptimize(reply);
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(BM_ParseTaskReply);

void BM_ParseFrameHeader(benchmark::State& state) {
  net::FrameHeader header;
  header.body_size = 100;
  header.metadata_size = 40;
  header.type = wire::v1::HELLO;
  std::string bytes(reinterpret_cast<const char*>(&header), sizeof header);
  bytes.append(header.body_size, 'x');
  for (auto _ : state) {
    auto parsed = net::ParseFrame(bytes, 1 << 20);
    MANTA_CHECK(parsed.ok() && parsed->complete);
    benchmark::DoNotOptimize(parsed);
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(BM_ParseFrameHeader);

}  // namespace
}  // namespace ray::core
